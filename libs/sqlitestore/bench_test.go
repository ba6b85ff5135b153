package sqlitestore

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// benchRecords is the size of the store in the benchmarks.
const benchRecords = 10_000

func benchID(i int) sandbox.ID { return sandbox.ID(fmt.Sprintf("3f2c7a52-8f5e-4a3b-9d61-%012d", i)) }

// benchStore makes a store with running records; one in ten has the label team=x, all have the label app=bench.
func benchStore(b *testing.B, path string) (*Store, uint64) {
	b.Helper()
	ctx := b.Context()
	s := open(b, path)
	n, err := s.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 20000, PortMax: 59999})
	if err != nil {
		b.Fatal(err)
	}
	for i := range benchRecords {
		id := benchID(i)
		m := map[string]string{"app": "bench", "team": "y", "run": fmt.Sprint(i)}
		if i%10 == 0 {
			m["team"] = "x"
		}
		if _, err := s.Insert(ctx, sandbox.New{ID: id, Accepted: true, Spec: sandboxtest.Spec(time.Hour), Metadata: m}); err != nil {
			b.Fatal(err)
		}
		// The lease of the node must not run out while the store is filled.
		if i%1000 == 0 {
			if err := s.RenewLease(ctx, "n", n.Session); err != nil {
				b.Fatal(err)
			}
		}
		c := sandbox.Candidate{Node: "n", PortMin: 20000, PortMax: 59999}
		if _, err := s.Place(ctx, sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}, Ports: []int{44772, 8080}}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Report(ctx, benchReport(id, n.Session, "")); err != nil {
			b.Fatal(err)
		}
	}
	return s, n.Session
}

func benchReport(id sandbox.ID, session uint64, message string) sandbox.Report {
	return sandbox.Report{ID: id, Node: "n", Epoch: 1, Session: session, Generation: 1, State: sandbox.StateRunning, Message: message}
}

func BenchmarkStore(b *testing.B) {
	path := filepath.Join(b.TempDir(), "store.db")
	s, session := benchStore(b, path)
	ctx := b.Context()

	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := s.Get(ctx, benchID(i%benchRecords)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("GetOverHTTP", func(b *testing.B) { benchHTTP(b, s) })
	for name, q := range map[string]sandbox.Query{
		"ListPage":       {Limit: 20},
		"ListOneLabel":   {Limit: 20, Metadata: map[string]string{"team": "x"}},
		"ListCommon":     {Limit: 20, Metadata: map[string]string{"app": "bench"}},
		"ListTwoLabels":  {Limit: 20, Metadata: map[string]string{"app": "bench", "team": "x"}},
		"ListLabelState": {Limit: 20, Metadata: map[string]string{"app": "bench"}, States: []sandbox.State{sandbox.StateRunning}},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				if page, err := s.List(ctx, q); err != nil || len(page.Items) != 20 {
					b.Fatal(len(page.Items), err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
	b.Run("Report", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Report(ctx, benchReport(benchID(i%benchRecords), session, fmt.Sprint(i))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Renew", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Renew(ctx, benchID(i%benchRecords), sandbox.AnyTenant, time.Now().Add(time.Hour)); err != nil {
				b.Fatal(err)
			}
		}
	})
	var inserted atomic.Int64
	b.Run("Insert", func(b *testing.B) {
		for b.Loop() {
			n := sandbox.New{ID: sandbox.ID(fmt.Sprintf("new-%d", inserted.Add(1))), Spec: sandboxtest.Spec(time.Hour), Metadata: map[string]string{"k": "v"}}
			if _, err := s.Insert(ctx, n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OpenAndRead", func(b *testing.B) {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			again, err := Open(ctx, path)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := again.Get(ctx, benchID(1)); err != nil {
				b.Fatal(err)
			}
			if err := again.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchHTTP measures reads as clients make them: over HTTP on this machine, the clients in the same process.
func benchHTTP(b *testing.B, s *Store) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, err := s.Get(r.Context(), sandbox.ID(r.URL.Path[1:]))
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(&rec); err != nil {
			b.Error(err)
		}
	}))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := client.Get(srv.URL + "/" + string(benchID(int(next.Add(1))%benchRecords)))
			if err != nil {
				b.Error(err)
				return
			}
			var rec sandbox.Record
			if err := json.NewDecoder(res.Body).Decode(&rec); err != nil || rec.Version == 0 {
				b.Error(res.Status, err)
			}
			if err := res.Body.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// BenchmarkMemory reports the heap that a store with all records in its cache takes.
func BenchmarkMemory(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	before := heap()
	s, _ := benchStore(b, filepath.Join(b.TempDir(), "store.db"))
	for b.Loop() {
		if _, err := s.List(b.Context(), sandbox.Query{Limit: 20}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(heap()-before, "MB-heap")
}
