package sandboxtest

import (
	"fmt"
	"sync"
	"time"

	"opensandbox/libs/sandbox"
)

var concurrencyTests = []test{
	{"ParallelWritersLoseNothing", testParallelWriters},
	{"OneWinnerPerGeneration", testOneWinner},
	{"OneWinnerPerID", testOneInsert},
	{"ExpiredOnce", testExpiredOnce},
	{"PlacedOnce", testPlacedOnce},
}

// parallel runs f n times at once and counts how often it returned true.
func (e *env) parallel(n int, f func(i int) bool) int {
	var wg sync.WaitGroup
	won := make([]bool, n)
	for i := range n {
		wg.Go(func() { won[i] = f(i) })
	}
	wg.Wait()
	count := 0
	for _, w := range won {
		if w {
			count++
		}
	}
	return count
}

func testParallelWriters(e *env) {
	e.register("n")
	before := e.running("a", "n")
	const writers, each = 8, 10
	e.parallel(writers, func(i int) bool {
		for k := range each {
			key := fmt.Sprintf("w%d-%d", i, k)
			if _, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{key: ptr("1")}); err != nil {
				e.Errorf("patch %s: %v", key, err)
			}
			if _, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Duration(2+i*each+k)*time.Hour)); err != nil {
				e.Errorf("renew: %v", err)
			}
			rep := e.reportOf(before, sandbox.StateRunning)
			rep.Message = key
			if _, err := e.Report(e.ctx(), rep); err != nil {
				e.Errorf("report: %v", err)
			}
			if _, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, Metadata: map[string]string{key: "1"}, Limit: 1}); err != nil {
				e.Errorf("list: %v", err)
			}
		}
		return true
	})
	r := e.get("a")
	if len(r.Intent.Metadata) != writers*each {
		e.Errorf("%d labels; want %d", len(r.Intent.Metadata), writers*each)
	}
	if want := before.Version + 3*writers*each; r.Version != want {
		e.Errorf("version %d; want %d", r.Version, want)
	}
}

func testOneWinner(e *env) {
	e.register("n")
	e.running("a", "n")
	_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	won := e.parallel(8, func(i int) bool {
		d := sandbox.DesiredRunning
		_, err := e.SetDesired(e.ctx(), "a", d, 2)
		return err == nil
	})
	if r := e.get("a"); won != 1 || r.Intent.Generation != 3 {
		e.Errorf("%d writers won, generation %d; want 1 and 3", won, r.Intent.Generation)
	}
}

func testOneInsert(e *env) {
	won := e.parallel(8, func(i int) bool {
		_, err := e.Insert(e.ctx(), sandbox.New{ID: "a", Tenant: fmt.Sprint(i), Spec: Spec(time.Hour)})
		return err == nil
	})
	if won != 1 {
		e.Errorf("%d inserts of one id succeeded", won)
	}
}

func testExpiredOnce(e *env) {
	const n = 20
	for i := range n {
		e.insert(sandbox.ID(fmt.Sprint(i)), withTimeout(time.Minute))
	}
	e.clock.Advance(time.Minute)
	var mu sync.Mutex
	seen := map[sandbox.ID]int{}
	e.parallel(4, func(int) bool {
		for range n {
			expired, err := e.ExpireDue(e.ctx(), e.clock.Now(), 3)
			if err != nil {
				e.Errorf("expire: %v", err)
			}
			mu.Lock()
			for _, id := range expired {
				seen[id]++
			}
			mu.Unlock()
		}
		return true
	})
	for i := range n {
		if got := seen[sandbox.ID(fmt.Sprint(i))]; got != 1 {
			e.Errorf("%d was expired %d times", i, got)
		}
	}
}

func testPlacedOnce(e *env) {
	for i := range 4 {
		e.register(fmt.Sprintf("n%d", i))
	}
	e.insert("a")
	won := e.parallel(8, func(i int) bool {
		_, err := e.Place(e.ctx(), sandbox.PlaceRequest{ID: "a", Candidates: []sandbox.Candidate{candidate(fmt.Sprintf("n%d", i%4))}, Ports: []int{1}})
		if err != nil && !sandbox.IsStale(err) {
			e.Errorf("place: %v", err)
		}
		return err == nil
	})
	if r := e.get("a"); won != 1 || r.Placement.Epoch != 1 {
		e.Errorf("placed %d times, epoch %d", won, r.Placement.Epoch)
	}
}
