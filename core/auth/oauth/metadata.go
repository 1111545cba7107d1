package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/galleychat/galley/core/jsondoc"
)

// maxAnswer bounds what a provider may answer, in bytes.
const maxAnswer = 4 << 20

// fetch sends a request, which may take so long, and reads the answer.
func fetch(client *http.Client, req *http.Request, timeout time.Duration) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}

// fetchJSON gets a JSON object.
func fetchJSON(ctx context.Context, client *http.Client, address, bearer string, timeout time.Duration) (jsondoc.Doc, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	status, body, err := fetch(client, req, timeout)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d", address, status)
	}
	doc, bad := jsondoc.Check(body)
	if bad != nil || doc.Kind() != '{' && doc.Kind() != '[' {
		return nil, fmt.Errorf("%s answered no JSON object", address)
	}
	return doc, nil
}

// metadata is what a provider says of itself.
type metadata struct {
	jsondoc.Doc
	keys oidc.KeySet
	read time.Time
}

// metadataLife is for how long a description is taken for true.
const metadataLife = time.Hour

// describe gives a provider's metadata. One that cannot be read anew is used on.
func (s *Service) describe(ctx context.Context, p *provider) (*metadata, error) {
	if p.description == "" {
		var b jsondoc.Builder
		b.Add("authorization_endpoint", p.authorizeURL)
		b.Add("token_endpoint", p.tokenURL)
		b.Add("userinfo_endpoint", p.userInfoURL)
		return &metadata{Doc: b.Done()}, nil
	}
	s.mu.Lock()
	known := s.metadata[p.description]
	s.mu.Unlock()
	if known != nil && s.now().Sub(known.read) < metadataLife {
		return known, nil
	}
	doc, err := fetchJSON(ctx, s.HTTP, p.description, "", p.timeout)
	if err != nil {
		if known != nil {
			s.Log.WarnContext(ctx, "a provider's description is not renewed", "provider", p.id, "error", err)
			return known, nil
		}
		return nil, fmt.Errorf("describe %s: %w", p.id, err)
	}
	m := &metadata{Doc: doc, read: s.now()}
	if address := doc.Text("jwks_uri"); address != "" {
		if known != nil && known.Text("jwks_uri") == address {
			m.keys = known.keys
		} else {
			keys := *s.HTTP
			keys.Timeout = p.timeout
			m.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), &keys), address)
		}
	}
	s.mu.Lock()
	s.metadata[p.description] = m
	s.mu.Unlock()
	return m, nil
}

// publicAlgorithms are those of which the verifier has no secret: with others, whoever knows the published key could sign.
var publicAlgorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// algorithms are those that a provider's ID tokens may be signed with.
func (m *metadata) algorithms() []string {
	list := slices.DeleteFunc(m.Get("id_token_signing_alg_values_supported").Texts(), func(a string) bool { return !slices.Contains(publicAlgorithms, a) })
	if len(list) == 0 {
		return []string{oidc.RS256}
	}
	return list
}

// clockSkew is how far the clocks of a provider and of this server may be apart.
const clockSkew = 2 * time.Minute

// verify checks an ID token that came with an access token, for a sign-in with a nonce, and gives its claims.
func (s *Service) verify(ctx context.Context, p *provider, m *metadata, idToken, accessToken, nonce string) (jsondoc.Doc, error) {
	if m.keys == nil {
		return nil, errors.New("the provider publishes no keys")
	}
	v := oidc.NewVerifier(m.Text("issuer"), m.keys, &oidc.Config{ClientID: p.clientID, SupportedSigningAlgs: m.algorithms(),
		Now: func() time.Time { return s.now().Add(-clockSkew) }})
	t, err := v.Verify(oidc.ClientContext(ctx, s.HTTP), idToken)
	if err != nil {
		return nil, err
	}
	var raw json.RawMessage
	if err := t.Claims(&raw); err != nil {
		return nil, err
	}
	claims := jsondoc.Doc(raw)
	azp := claims.Text("azp")
	switch {
	case t.Subject == "":
		return nil, errors.New("the ID token has no subject")
	case t.Nonce != nonce:
		return nil, errors.New("the ID token is for another sign-in")
	case t.IssuedAt.After(s.now().Add(clockSkew)):
		return nil, errors.New("the ID token is from the future")
	case azp != "" && azp != p.clientID, azp == "" && len(t.Audience) > 1:
		return nil, errors.New("the ID token was given to another client")
	case t.AccessTokenHash != "" && accessToken != "":
		return claims, t.VerifyAccessToken(accessToken)
	}
	return claims, nil
}
