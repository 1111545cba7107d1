-- Vectors of texts, which the reference keeps in a database of their own.
CREATE TABLE IF NOT EXISTS galley_vector (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    model TEXT NOT NULL,
    dims INTEGER NOT NULL,
    vector BLOB NOT NULL,
    hash BIGINT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT,
    made BIGINT NOT NULL,
    PRIMARY KEY (collection, id)
);
