package sandboxtest

import (
	"time"

	"opensandbox/libs/sandbox"
)

var hintTests = []test{
	{"AfterTheCommit", testHintAfterCommit},
	{"Coalesced", testHintCoalesced},
	{"WhichChangesAreHinted", testHintTopics},
	{"Deadline", testHintDeadline},
	{"Cancel", testHintCancel},
}

// expectHint waits for a hint.
func (e *env) expectHint(what string, c <-chan struct{}) {
	e.Helper()
	select {
	case <-c:
	case <-time.After(wait):
		e.Errorf("%s: no hint", what)
	}
}

// quiet reports whether a topic gets no hint by what is done. A hint for another topic, sent later over the same way, shows that
// an earlier one would have arrived.
func (e *env) quiet(what string, t sandbox.Topic, do func()) {
	e.Helper()
	c, cancel := e.Subscribe(t)
	defer cancel()
	do()
	e.settle()
	select {
	case <-c:
		e.Errorf("%s: there was a hint for %s", what, t)
	default:
	}
}

// settle returns when all hints of earlier calls have been delivered.
func (e *env) settle() {
	e.Helper()
	id := sandbox.ID("probe-" + time.Now().Format("150405.000000000"))
	c, cancel := e.Subscribe(sandbox.RecordTopic(id))
	defer cancel()
	e.insert(id, noTimeout)
	e.gone(id, sandbox.ReasonDeleted)
	e.expectHint("probe", c)
}

func (e *env) hinted(what string, t sandbox.Topic, do func()) {
	e.Helper()
	e.settle()
	c, cancel := e.Subscribe(t)
	defer cancel()
	do()
	e.expectHint(what+": "+string(t), c)
}

func testHintAfterCommit(e *env) {
	e.register("n")
	e.running("a", "n")
	c, cancel := e.Subscribe(sandbox.RecordTopic("a"))
	defer cancel()
	seen := make(chan bool)
	go func() {
		defer close(seen)
		for {
			select {
			case <-c:
			case <-e.ctx().Done():
				return
			}
			r, err := e.Get(e.ctx(), "a")
			if err != nil {
				return
			}
			if r.Gone() {
				seen <- true
				return
			}
		}
	}()
	e.gone("a", sandbox.ReasonDeleted)
	select {
	case ok := <-seen:
		if !ok {
			e.Error("the reader gave up")
		}
	case <-time.After(wait):
		e.Fatal("who was woken did not see the change")
	}
	<-seen
}

func testHintCoalesced(e *env) {
	e.register("n")
	e.running("a", "n")
	e.settle()
	c, cancel := e.Subscribe(sandbox.RecordTopic("a"))
	defer cancel()
	for g := range uint64(20) {
		d := sandbox.DesiredPaused
		if g%2 == 1 {
			d = sandbox.DesiredRunning
		}
		_, err := e.SetDesired(e.ctx(), "a", d, g+1)
		e.ok(err)
	}
	e.settle()
	n := 0
	for {
		select {
		case <-c:
			n++
			continue
		default:
		}
		break
	}
	if n != 1 {
		e.Errorf("%d hints are waiting; want 1", n)
	}
}

func testHintTopics(e *env) {
	e.register("n")
	record, work := sandbox.RecordTopic("a"), sandbox.WorkTopic("n")
	e.hinted("insert", sandbox.TopicPlacement, func() { e.insert("a") })
	e.quiet("insert", sandbox.RecordTopic("b"), func() { e.insert("b") })
	e.quiet("place", sandbox.RecordTopic("b"), func() { e.place("b", "n") })
	e.hinted("place", work, func() { e.place("a", "n") })
	e.hinted("progress", record, func() {
		rep := e.reportOf(e.get("a"), sandbox.StatePending)
		rep.Generation, rep.Message = 0, "40%"
		_, err := e.Report(e.ctx(), rep)
		e.ok(err)
	})
	e.hinted("running", record, func() { e.report("a", sandbox.StateRunning) })
	for _, topic := range []sandbox.Topic{record, work, sandbox.TopicDeadline} {
		e.quiet("renewal", topic, func() {
			_, err := e.Renew(e.ctx(), "a", tenant, e.get("a").Intent.ExpiresAt.Add(time.Minute))
			e.ok(err)
		})
		e.quiet("metadata", topic, func() {
			_, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"k": ptr(string(topic)[:4])})
			e.ok(err)
		})
	}
	pause := func() { _, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1); e.ok(err) }
	e.hinted("pause", work, pause)
	e.quiet("pause again", work, func() {
		_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 2)
		e.ok(err)
	})
	e.hinted("generation while there is work", work, func() {
		_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredRunning, 2)
		e.ok(err)
	})
	e.hinted("gone", work, func() { e.gone("a", sandbox.ReasonDeleted) })
	e.hinted("ended", record, func() { e.clean("a") })
	e.quiet("refused", record, func() {
		if _, err := e.Accept(e.ctx(), "a"); err == nil {
			e.Error("accepted after the end")
		}
	})
}

func testHintDeadline(e *env) {
	e.register("n")
	e.hinted("first deadline", sandbox.TopicDeadline, func() { e.running("a", "n") })
	e.quiet("later deadline", sandbox.TopicDeadline, func() { e.insert("later", withTimeout(2*time.Hour)) })
	e.hinted("earlier deadline", sandbox.TopicDeadline, func() { e.insert("early", withTimeout(time.Minute)) })
	e.hinted("renewal that shortens", sandbox.TopicDeadline, func() {
		_, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Second))
		e.ok(err)
	})
	e.hinted("attention", sandbox.TopicDeadline, func() { e.failed("failed", "n", unaccepted) })
	// Whoever has read the next deadline is told of what comes before it, although there were earlier ones once.
	e.gone("a", sandbox.ReasonDeleted)
	e.gone("early", sandbox.ReasonDeleted)
	_, _, err := e.NextDeadline(e.ctx())
	e.ok(err)
	e.hinted("earlier than the next", sandbox.TopicDeadline, func() { e.insert("new", withTimeout(10*time.Minute)) })
}

func testHintCancel(e *env) {
	e.register("n")
	c, cancel := e.Subscribe(sandbox.RecordTopic("a"))
	cancel()
	cancel()
	e.insert("a")
	e.settle()
	select {
	case <-c:
		e.Error("a hint after cancel")
	default:
	}
}
