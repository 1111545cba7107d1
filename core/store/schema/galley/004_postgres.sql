-- Stored tokens of providers that a server is renewing: the others wait, as most refresh tokens are good for one use.
CREATE TABLE IF NOT EXISTS galley_oauth_renewal (
    session_id TEXT NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);
