package session

import "context"

// OAuth is the provider that a sign-in by the method "oauth" came from.
type OAuth struct {
	SessionID string // of the stored tokens, to be named in the cookie oauth_session_id; "" for none
	Provider  string
}

type oauthKey struct{}

// WithOAuth tells SignIn, and a Factor that it begins, where a sign-in came from.
func WithOAuth(ctx context.Context, o OAuth) context.Context {
	return context.WithValue(ctx, oauthKey{}, o)
}

// OAuthOf is what WithOAuth has told; the zero value for other sign-ins.
func OAuthOf(ctx context.Context) OAuth {
	o, _ := ctx.Value(oauthKey{}).(OAuth)
	return o
}
