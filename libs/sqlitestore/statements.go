package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
)

// writeStatements are prepared on the writer's connection.
type writeStatements struct {
	begin, commit, rollback                           *sql.Stmt
	load, insert, update, updateBody, remove          *sql.Stmt
	labelAdd, labelRemove                             *sql.Stmt
	hold, holdAmounts, holdFree, used                 *sql.Stmt
	ports, portLease, portBar, portFree               *sql.Stmt
	firstExpiry, firstAttention, due, ended, mirrored *sql.Stmt
	node, nodePut, engine, engineDrop                 *sql.Stmt
	nodeLease, nodeDrain, meta, metaPut, metaSet      *sql.Stmt
	key, keyPut, keysOver                             *sql.Stmt
	session, sessionPut, nodeForget, nodeUsed, nodes  *sql.Stmt
	portSeize, workAdd, leasesOver                    *sql.Stmt
	secretPut, secretDrop                             *sql.Stmt
}

const (
	nodeColumns = `name, engine_id, session, lease_until, draining, cpu, memory, max_sandboxes, port_min, port_max, host, facts, removed`

	sqlInsert = `INSERT INTO osb_sandbox
		(id, tenant, created_at, body, version, visible, state, unplaced, node, expires_at, attention_at, ended_at, work_since, mirrored)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)`

	// work_since: 0 clears it, -1 leaves it, another number is set. mirrored: 1 sets it back.
	sqlUpdate = `UPDATE osb_sandbox SET body = ?, version = ?, visible = ?, state = ?, unplaced = ?, node = ?, expires_at = ?,
		attention_at = ?, ended_at = ?, work_since = CASE ?10 WHEN 0 THEN NULL WHEN -1 THEN work_since ELSE ?10 END,
		mirrored = CASE ?11 WHEN 1 THEN 0 ELSE mirrored END WHERE id = ?12`

	sqlNodePut = `INSERT INTO osb_node (` + nodeColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET engine_id = excluded.engine_id, session = excluded.session, lease_until = excluded.lease_until,
		draining = excluded.draining, cpu = excluded.cpu, memory = excluded.memory, max_sandboxes = excluded.max_sandboxes,
		port_min = excluded.port_min, port_max = excluded.port_max, host = excluded.host,
		facts = excluded.facts, removed = excluded.removed`
)

// statement is where a prepared statement goes and its text.
type statement struct {
	to   **sql.Stmt
	text string
}

func prepareWrites(ctx context.Context, conn *sql.Conn) (*writeStatements, error) {
	w := &writeStatements{}
	list := []statement{
		{&w.begin, `BEGIN IMMEDIATE`}, {&w.commit, `COMMIT`}, {&w.rollback, `ROLLBACK`},
		{&w.load, `SELECT body FROM osb_sandbox WHERE id = ?`},
		{&w.insert, sqlInsert},
		{&w.update, sqlUpdate},
		{&w.updateBody, `UPDATE osb_sandbox SET body = ?, version = ? WHERE id = ?`},
		{&w.remove, `DELETE FROM osb_sandbox WHERE id = ?`},
		{&w.labelAdd, `INSERT OR IGNORE INTO osb_label (tenant, key, value, created_at, id) VALUES (?, ?, ?, ?, ?)`},
		{&w.labelRemove, `DELETE FROM osb_label WHERE tenant = ? AND key = ? AND value = ? AND created_at = ? AND id = ?`},
		{&w.hold, `INSERT OR REPLACE INTO osb_hold (node, id, epoch, cpu, memory) VALUES (?, ?, ?, ?, ?)`},
		{&w.holdAmounts, `UPDATE osb_hold SET cpu = 0, memory = 0 WHERE node = ? AND id = ? AND epoch = ?`},
		{&w.holdFree, `DELETE FROM osb_hold WHERE node = ? AND id = ? AND epoch = ?`},
		// total and not sum: a sum of integers beyond the range is an error.
		{&w.used, `SELECT count(*), total(cpu), total(memory) FROM osb_hold WHERE node = ?`},
		{&w.ports, `SELECT port FROM osb_port WHERE node = ? AND port BETWEEN ? AND ? AND (id IS NOT NULL OR until > ?) ORDER BY port`},
		{&w.portLease, `INSERT INTO osb_port (node, port, id, epoch) VALUES (?, ?, ?, ?)
			ON CONFLICT (node, port) DO UPDATE SET id = excluded.id, epoch = excluded.epoch, until = NULL`},
		{&w.portBar, `UPDATE osb_port SET id = NULL, epoch = NULL, until = ? WHERE node = ? AND port = ?`},
		{&w.portFree, `DELETE FROM osb_port WHERE node = ? AND id = ? AND epoch = ?`},
		{&w.firstExpiry, `SELECT min(expires_at) FROM osb_sandbox WHERE expires_at IS NOT NULL`},
		{&w.firstAttention, `SELECT min(attention_at) FROM osb_sandbox WHERE attention_at IS NOT NULL`},
		{&w.due, `SELECT id FROM osb_sandbox WHERE expires_at <= ? ORDER BY expires_at, id LIMIT ?`},
		{&w.ended, `SELECT id FROM osb_sandbox WHERE ended_at < ? ORDER BY ended_at, id LIMIT ?`},
		{&w.mirrored, `UPDATE osb_sandbox SET mirrored = max(mirrored, min(?, version)) WHERE id = ? AND node = ?`},
		{&w.node, `SELECT ` + nodeColumns + ` FROM osb_node WHERE name = ?`},
		{&w.nodePut, sqlNodePut},
		{&w.engine, `SELECT count(*) FROM osb_node WHERE engine_id = ? AND name <> ? AND lease_until > ?`},
		{&w.engineDrop, `UPDATE osb_node SET engine_id = '', session = session + 1 WHERE engine_id = ? AND name <> ?`},
		{&w.nodeLease, `UPDATE osb_node SET lease_until = ? WHERE name = ?`},
		{&w.nodeDrain, `UPDATE osb_node SET draining = ? WHERE name = ?`},
		{&w.key, `SELECT hash, id FROM osb_key WHERE tenant = ? AND name = ? AND until > ?`},
		{&w.keyPut, `INSERT OR REPLACE INTO osb_key (tenant, name, hash, id, until) VALUES (?, ?, ?, ?, ?)`},
		{&w.keysOver, `DELETE FROM osb_key WHERE until <= ?`},
		{&w.session, `SELECT session FROM osb_session WHERE name = ?`},
		{&w.sessionPut, `INSERT OR REPLACE INTO osb_session (name, session) VALUES (?, ?)`},
		{&w.nodeForget, `DELETE FROM osb_node WHERE name = ?`},
		{&w.nodeUsed, `SELECT count(*) FROM osb_sandbox WHERE node = ?`},
		{&w.secretPut, `INSERT INTO osb_secret (id, sealed) VALUES (?, ?)`},
		{&w.secretDrop, `DELETE FROM osb_secret WHERE id = ?`},
		{&w.meta, `SELECT value FROM osb_meta WHERE key = ?`},
		{&w.nodes, `SELECT ` + nodeColumns + ` FROM osb_node ORDER BY name`},
		// A port that somebody else has leased stays theirs.
		{&w.portSeize, `INSERT INTO osb_port (node, port, id, epoch) VALUES (?, ?, ?, ?)
			ON CONFLICT (node, port) DO UPDATE SET id = excluded.id, epoch = excluded.epoch, until = NULL WHERE osb_port.id IS NULL`},
		{&w.leasesOver, `UPDATE osb_node SET lease_until = ? WHERE lease_until < ? AND removed = 0`},
		{&w.workAdd, `UPDATE osb_sandbox SET work_since = ? WHERE id = ?`},
		{&w.metaSet, `UPDATE osb_meta SET value = ? WHERE key = ?`},
		{&w.metaPut, `INSERT INTO osb_meta (key, value) VALUES (?, ?)`},
	}
	return w, prepare(list, func(text string) (*sql.Stmt, error) { return conn.PrepareContext(ctx, text) })
}

// readStatements are prepared on each connection that reads, when it first needs them.
type readStatements struct {
	load, unplaced, countUnplaced, nextExpiry, attention, work, onNode, unmirrored, nodes, meta, usage, counts, secret *sql.Stmt
}

func prepareReads(ctx context.Context, db *sql.DB) (*readStatements, error) {
	r := &readStatements{}
	list := []statement{
		{&r.load, `SELECT body FROM osb_sandbox WHERE id = ?`},
		{&r.unplaced, `SELECT id, version FROM osb_sandbox WHERE unplaced = 1 ORDER BY created_at, id LIMIT ?`},
		{&r.countUnplaced, `SELECT count(*) FROM osb_sandbox WHERE unplaced = 1`},
		{&r.nextExpiry, `SELECT min(expires_at) FROM osb_sandbox WHERE expires_at IS NOT NULL`},
		{&r.attention, `SELECT id, version, attention_at FROM osb_sandbox WHERE attention_at IS NOT NULL ORDER BY attention_at, id LIMIT ?`},
		{&r.work, `SELECT id, work_since FROM osb_sandbox WHERE node = ? AND work_since IS NOT NULL ORDER BY work_since LIMIT ?`},
		{&r.onNode, `SELECT id, version FROM osb_sandbox WHERE node = ? ORDER BY id`},
		{&r.unmirrored, `SELECT id, version FROM osb_sandbox WHERE node = ? AND version > mirrored ORDER BY id LIMIT ?`},
		{&r.nodes, `SELECT ` + nodeColumns + ` FROM osb_node ORDER BY name`},
		{&r.meta, `SELECT value FROM osb_meta WHERE key = ?`},
		{&r.usage, `SELECT node, count(*), total(cpu), total(memory) FROM osb_hold GROUP BY node`},
		{&r.counts, `SELECT coalesce(node, ''), state, count(*) FROM osb_sandbox WHERE visible = 1 GROUP BY node, state`},
		{&r.secret, `SELECT sealed FROM osb_secret WHERE id = ?`},
	}
	return r, prepare(list, func(text string) (*sql.Stmt, error) { return db.PrepareContext(ctx, text) })
}

func prepare(list []statement, on func(text string) (*sql.Stmt, error)) error {
	for _, s := range list {
		var err error
		if *s.to, err = on(s.text); err != nil {
			return fmt.Errorf("prepare %q: %w", s.text, err)
		}
	}
	return nil
}
