"""The certificate that a plugin is known by."""

from __future__ import annotations

import base64
import datetime
import os
import ssl
import tempfile
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Identity:
    """A key and a certificate that signs itself, for the name localhost."""

    key: bytes  #: PEM
    certificate: bytes  #: PEM
    der: bytes  #: the certificate

    def handshake(self) -> str:
        """The certificate as it stands in the handshake line."""
        return base64.b64encode(self.der).decode("ascii").rstrip("=")

    def load_into(self, context: ssl.SSLContext, folder: str) -> None:
        """Gives the certificate to a TLS context, which reads it from a file only."""
        fd, path = tempfile.mkstemp(dir=folder, prefix="key")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(self.key + self.certificate)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)


def new_identity() -> Identity:
    """Makes a key (EC P-256) and its certificate, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Galley plugin")])
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=True, data_encipherment=False, key_agreement=True,
        key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=3650))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return Identity(
        key=key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        der=certificate.public_bytes(serialization.Encoding.DER),
    )


def server_context(identity: Identity, host_certificate: bytes, folder: str) -> ssl.SSLContext:
    """TLS of the plugin's HTTP server: only the host may connect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=host_certificate.decode("ascii"))
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    identity.load_into(context, folder)
    return context
