-- Records as JSON, beside the columns that queries select and order by. All times are in microseconds since 1970, UTC.
CREATE TABLE osb_sandbox (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    tenant       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    visible      INTEGER NOT NULL,
    state        TEXT NOT NULL,
    unplaced     INTEGER NOT NULL,
    node         TEXT,    -- while it is placed and not released
    work_since   INTEGER, -- while it needs work: the number of the change that asked for it
    mirrored     INTEGER NOT NULL, -- the version that has reached the disk of the node
    expires_at   INTEGER, -- while it is not Gone; rounded up
    attention_at INTEGER, -- rounded up
    ended_at     INTEGER,
    body         BLOB NOT NULL -- last: what lies behind a long value is slow to reach
);
CREATE INDEX osb_sandbox_list      ON osb_sandbox (tenant, created_at, id, state) WHERE visible = 1;
CREATE INDEX osb_sandbox_unplaced  ON osb_sandbox (created_at, id) WHERE unplaced = 1;
CREATE INDEX osb_sandbox_node      ON osb_sandbox (node, id) WHERE node IS NOT NULL;
CREATE INDEX osb_sandbox_work      ON osb_sandbox (node, work_since) WHERE work_since IS NOT NULL;
CREATE INDEX osb_sandbox_mirror    ON osb_sandbox (node, id) WHERE node IS NOT NULL AND version > mirrored;
CREATE INDEX osb_sandbox_expires   ON osb_sandbox (expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX osb_sandbox_attention ON osb_sandbox (attention_at, id) WHERE attention_at IS NOT NULL;
CREATE INDEX osb_sandbox_ended     ON osb_sandbox (ended_at, id) WHERE ended_at IS NOT NULL;

-- The metadata of visible records, for lists.
CREATE TABLE osb_label (
    tenant     TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    id         TEXT NOT NULL,
    PRIMARY KEY (tenant, key, value, created_at, id)
) WITHOUT ROWID;

-- What each placement holds. Amounts are kept by holder and never counted up or down, so that taking and freeing can be repeated.
CREATE TABLE osb_hold (
    node   TEXT NOT NULL,
    id     TEXT NOT NULL,
    epoch  INTEGER NOT NULL,
    cpu    INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    PRIMARY KEY (node, id, epoch)
) WITHOUT ROWID;

-- A port is leased to (id, epoch), or barred until a time because somebody else has bound it.
CREATE TABLE osb_port (
    node  TEXT NOT NULL,
    port  INTEGER NOT NULL,
    id    TEXT,
    epoch INTEGER,
    until INTEGER,
    PRIMARY KEY (node, port)
) WITHOUT ROWID;
CREATE INDEX osb_port_holder ON osb_port (id, epoch, node) WHERE id IS NOT NULL;

CREATE TABLE osb_node (
    name          TEXT PRIMARY KEY,
    engine_id     TEXT NOT NULL,
    session       INTEGER NOT NULL,
    lease_until   INTEGER NOT NULL,
    draining      INTEGER NOT NULL,
    cpu           INTEGER NOT NULL,
    memory        INTEGER NOT NULL,
    max_sandboxes INTEGER NOT NULL,
    port_min      INTEGER NOT NULL,
    port_max      INTEGER NOT NULL,
    host          TEXT NOT NULL
) WITHOUT ROWID;
