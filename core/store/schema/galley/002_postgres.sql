-- Tokens that were signed out before they expired: the reference keeps them in Redis, or not at all.
CREATE TABLE IF NOT EXISTS galley_revoked_token (
    jti TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
