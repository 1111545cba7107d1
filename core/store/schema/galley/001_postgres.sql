CREATE TABLE IF NOT EXISTS galley_plugin (
    id TEXT NOT NULL PRIMARY KEY,
    enabled BOOLEAN NOT NULL,
    config TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS galley_plugin_version (
    id INTEGER NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO galley_plugin_version (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING;
CREATE TABLE IF NOT EXISTS galley_plugin_kv (
    plugin TEXT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    version BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (plugin, key)
);
CREATE INDEX IF NOT EXISTS galley_plugin_kv_expires ON galley_plugin_kv (expires_at, plugin) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS galley_plugin_usage (
    plugin TEXT NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL,
    keys BIGINT NOT NULL
);
