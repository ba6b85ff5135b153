-- A file as the first release left it: its schema, and a row of each kind. It is never changed.
CREATE TABLE osb_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO osb_meta (key, value) VALUES ('schema_version', '1'), ('incarnation', '2026-01-01T00:00:00Z'), ('installation', 'first');
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

INSERT INTO osb_sandbox (id, tenant, created_at, version, visible, state, unplaced, node, work_since, mirrored, expires_at, attention_at, ended_at, body) VALUES
    ('pending', '', 1767225600000000, 1, 1, 'Pending', 1, NULL, NULL, 0, 1767229200000000, NULL, NULL,
     CAST('{"id":"pending","createdAt":"2026-01-01T00:00:00Z","spec":{"image":"python:3.12","entrypoint":["sleep","infinity"],"timeout":3600000000000},"intent":{"desired":"running","generation":1,"accepted":true,"expiresAt":"2026-01-01T01:00:00Z","metadata":{"team":"a"}},"placement":{},"observed":{},"version":1}' AS BLOB)),
    ('running', '', 1767225601000000, 3, 1, 'Running', 0, 'n', NULL, 3, NULL, NULL, NULL,
     CAST('{"id":"running","createdAt":"2026-01-01T00:00:01Z","spec":{"image":"python:3.12","entrypoint":["sleep","infinity"]},"intent":{"desired":"running","generation":1,"accepted":true},"placement":{"node":"n","epoch":1,"ports":{"44772":40000},"reserved":{"cpu":500}},"observed":{"state":"Running","reason":"RUNNING","generation":1,"epoch":1,"session":7,"started":true,"addresses":{"containerIP":"172.17.0.2","ports":{"44772":40000}},"at":"2026-01-01T00:00:02Z"},"version":3}' AS BLOB)),
    ('ended', '', 1767225602000000, 4, 0, 'Terminated', 0, NULL, NULL, 0, NULL, NULL, 1767225700000000,
     CAST('{"id":"ended","createdAt":"2026-01-01T00:00:02Z","spec":{"image":"python:3.12","entrypoint":["true"]},"intent":{"desired":"gone","reason":"DELETED","generation":2,"accepted":true},"placement":{"node":"n","epoch":1,"released":true},"observed":{"state":"Running","generation":1,"epoch":1,"session":7,"started":true},"endedAt":"2026-01-01T00:01:40Z","version":4}' AS BLOB));
INSERT INTO osb_label (tenant, key, value, created_at, id) VALUES ('', 'team', 'a', 1767225600000000, 'pending');
INSERT INTO osb_hold (node, id, epoch, cpu, memory) VALUES ('n', 'running', 1, 500, 0);
INSERT INTO osb_port (node, port, id, epoch) VALUES ('n', 40000, 'running', 1);
INSERT INTO osb_node VALUES ('n', 'engine', 7, 1767225660000000, 1, 2000, 0, 3, 40000, 40100, '');
