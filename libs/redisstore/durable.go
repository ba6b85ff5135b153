package redisstore

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
)

// This file is about durable mode: a write is answered when a replica has it. The server counts the replicas that have all that it wrote
// before the last command of a connection (WAIT), so WAIT has to follow its script on the same connection. It covers what a script has
// only read, too: one that finds its change made already by an earlier call is confirmed like the change itself.

// DurableTimeout is how long a write waits for a replica in durable mode. After it the outcome is unknown to the caller.
const DurableTimeout = 500 * time.Millisecond

// CodeUnconfirmed is the wire code of a write that no replica has confirmed: it may or may not last.
const CodeUnconfirmed = "STORE::UNCONFIRMED"

// invocation is one run of a script.
type invocation struct {
	keys []string
	args []any
}

// run runs a script that writes, and in durable mode waits for a replica.
func (s *Store) run(ctx context.Context, script *redis.Script, keyList []string, args ...any) (any, error) {
	if !s.durable {
		return script.Run(ctx, s.client, keyList, args...).Result()
	}
	answers, confirmed, err := s.runAll(ctx, script, []invocation{{keyList, args}})
	if err != nil {
		return nil, err
	}
	if !happened(answers[0]) {
		return answers[0], nil
	}
	return answers[0], unconfirmed(confirmed)
}

// runAll runs a script several times in one round trip; each holds or fails by itself. In durable mode confirmed says how many replicas
// have what they did; else it is nil.
func (s *Store) runAll(ctx context.Context, script *redis.Script, runs []invocation) (answers []any, confirmed *redis.Cmd, err error) {
	for attempt := 0; ; attempt++ {
		cmds, confirmed := s.send(ctx, script, runs)
		err := firstError(cmds)
		if redis.HasErrorPrefix(err, "NOSCRIPT") && attempt < retries {
			if err := s.teach(ctx, script); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, c := range cmds {
			answers = append(answers, c.Val())
		}
		return answers, confirmed, nil
	}
}

func firstError(cmds []*redis.Cmd) error {
	for _, c := range cmds {
		if err := c.Err(); err != nil {
			return err
		}
	}
	return nil
}

// teach makes the server that takes the writes know a script.
func (s *Store) teach(ctx context.Context, script *redis.Script) error {
	server, err := s.master(ctx)
	if err != nil {
		return err
	}
	return script.Load(ctx, server).Err()
}

// master returns the client of the server that takes the writes: in a cluster, the one that has the keys of the installation.
func (s *Store) master(ctx context.Context) (redis.UniversalClient, error) {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, s.keys.meta())
	}
	return s.client, nil
}

// send sends runs of a script as one pipeline. In durable mode WAIT follows them, whose answer is confirmed.
func (s *Store) send(ctx context.Context, script *redis.Script, runs []invocation) (cmds []*redis.Cmd, confirmed *redis.Cmd) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok || !s.durable {
		return s.sendTo(ctx, s.client, script, runs)
	}
	return s.sendToMaster(ctx, cluster, script, runs)
}

func (s *Store) sendTo(ctx context.Context, c redis.UniversalClient, script *redis.Script, runs []invocation) (cmds []*redis.Cmd, confirmed *redis.Cmd) {
	pipe := c.Pipeline()
	for _, r := range runs {
		cmds = append(cmds, pipe.EvalSha(ctx, script.Hash(), r.keys, r.args...))
	}
	if s.durable {
		confirmed = pipe.Do(ctx, "WAIT", 1, DurableTimeout.Milliseconds())
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	return cmds, confirmed
}

// sendToMaster does for a cluster what its client does not: that client would send WAIT, which names no key, to any server. So this one
// speaks with the master itself, and follows it when it moves. What is sent anew may have been done already, as with every call; see
// retries.
func (s *Store) sendToMaster(ctx context.Context, cluster *redis.ClusterClient, script *redis.Script, runs []invocation) (cmds []*redis.Cmd, confirmed *redis.Cmd) {
	bounded, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	for attempt := 0; ; attempt++ {
		master, err := cluster.MasterForKey(bounded, s.keys.meta())
		if err == nil {
			cmds, confirmed = s.sendTo(bounded, master, script, runs)
			if err = firstError(cmds); err == nil {
				err = confirmed.Err()
			}
		} else {
			failed := redis.NewCmd(bounded)
			failed.SetErr(err)
			cmds, confirmed = []*redis.Cmd{failed}, failed
		}
		if err == nil || isMistake(err) || redis.HasErrorPrefix(err, "NOSCRIPT") {
			return cmds, confirmed
		}
		cluster.ReloadState(bounded)
		select {
		case <-time.After(min(retryPause<<min(attempt, 10), retryPauseTo)):
		case <-bounded.Done():
			setLate(ctx, append(slices.Clone(cmds), confirmed))
			return cmds, confirmed
		}
	}
}

// setLate replaces the errors that come from callWithin and not from the caller's context.
func setLate(ctx context.Context, cmds []*redis.Cmd) {
	for _, c := range cmds {
		if late(ctx, c.Err()) {
			c.SetErr(errNoAnswer)
		}
	}
}

// happened reports whether a script wrote something, or answers with what another call has written and what may not be confirmed yet.
func happened(answer any) bool {
	list, ok := answer.([]any)
	return !ok || len(list) == 0 || list[0] == answerOK || list[0] == answerHeld
}

// unconfirmed returns the error of a write that no replica has.
func unconfirmed(confirmed *redis.Cmd) error {
	n, err := confirmed.Int64()
	if err == nil && n >= 1 {
		return nil
	}
	return fault.New(fault.Unavailable, "the change was made, but no replica of the store has confirmed it: it may or may not last").
		WithCode(CodeUnconfirmed).RetryAfter(retryAfter).Because(err)
}

// confirmRead makes sure, in durable mode, that what was just read is on a replica: who asks for a change that has been made already is
// told that it is made, also when the call that made it could not confirm it.
func (s *Store) confirmRead(ctx context.Context) error {
	if !s.durable {
		return nil
	}
	_, confirmed, err := s.runAll(ctx, s.scripts.read, []invocation{{keys: []string{s.keys.meta()}, args: []any{1, metaMade}}})
	if err != nil {
		return err
	}
	return unconfirmed(confirmed)
}
