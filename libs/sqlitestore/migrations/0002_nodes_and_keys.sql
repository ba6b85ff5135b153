-- What a node is, beyond what queries compare, as JSON; and whether it has been removed.
ALTER TABLE osb_node ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';
ALTER TABLE osb_node ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;

-- The last sessions of nodes that were forgotten.
CREATE TABLE osb_session (
    name    TEXT PRIMARY KEY,
    session INTEGER NOT NULL
) WITHOUT ROWID;

-- Idempotency keys. A record that a key leads to has an ended_at that is late enough for the key.
CREATE TABLE osb_key (
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    hash   TEXT NOT NULL,
    id     TEXT NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID;
CREATE INDEX osb_key_until ON osb_key (until);

-- For the numbers of sandboxes by node and state.
CREATE INDEX osb_sandbox_count ON osb_sandbox (node, state) WHERE visible = 1;
