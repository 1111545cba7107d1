"""Generates galley_sdk/_proto from sdk/proto/plugin/v1/plugin.proto.

Needs: pip install 'grpcio-tools==1.72.2' mypy-protobuf setuptools
The version of grpcio-tools sets the oldest grpcio and protobuf that the SDK runs with; see pyproject.toml.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent / "proto"
TARGET = HERE / "galley_sdk" / "_proto"


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        source = PROTO / "plugin" / "v1" / "plugin.proto"
        plugins = [f"--plugin={name}={shutil.which(name) or Path(sys.executable).parent / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *plugins, *outputs, str(source)], check=True)
        for file in (Path(out) / "plugin" / "v1").iterdir():
            text = file.read_text()
            text = text.replace("from plugin.v1 import plugin_pb2", "from . import plugin_pb2")
            text = text.replace("'plugin.v1.plugin_pb2'", "'galley_sdk._proto.plugin_pb2'")
            (TARGET / file.name).write_text(text)


if __name__ == "__main__":
    main()
