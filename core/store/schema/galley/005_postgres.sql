-- What is in the texts of chats, so that a search need not read those without its words: see core/store/chats/sieve.go.
CREATE TABLE IF NOT EXISTS galley_chat_sieve (
    user_id TEXT NOT NULL,
    chat_id TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    loaded_at BIGINT NOT NULL,
    apart BOOLEAN NOT NULL,
    grams BYTEA NOT NULL,
    PRIMARY KEY (user_id, chat_id)
);
