//go:build integration

package redisstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// benchRecords is how many live records there are while the benchmarks run. Costs grow at most with its logarithm.
const benchRecords = 20000

func benchID(i int) sandbox.ID { return sandbox.ID(fmt.Sprintf("bench-%06d", i)) }

// benchStore returns a store with records of which 1 in 100 has rare=1 and every second half=1.
func benchStore(b *testing.B) (*Store, *redistest.Server) {
	b.Helper()
	server := redistest.Start(b, redistest.Options{})
	s := open(b, Config{Client: client(b, single(server))})
	var wg sync.WaitGroup
	const workers = 32
	for w := range workers {
		wg.Go(func() {
			for i := w; i < benchRecords; i += workers {
				n := sandbox.New{
					ID: benchID(i), Tenant: "t", Accepted: true, Spec: sandboxtest.Spec(time.Hour),
					Metadata: map[string]string{"rare": fmt.Sprint(i % 100), "half": fmt.Sprint(i % 2), "user": fmt.Sprint(i)},
				}
				if _, err := s.Insert(context.Background(), n); err != nil {
					b.Errorf("insert: %v", err)
				}
			}
		})
	}
	wg.Wait()
	return s, server
}

// serverTime is the processor time that the server has used. It does one thing after the other, so its time for an operation bounds
// how many there can be in a second, whatever else the machine does.
func serverTime(b *testing.B, s *redistest.Server) time.Duration {
	b.Helper()
	text, _ := s.Do("INFO", "cpu").(string)
	info, total := parseInfo(text), 0.0
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		f, err := strconv.ParseFloat(info[field], 64)
		if err != nil {
			b.Fatalf("%s: %v", field, err)
		}
		total += f
	}
	return time.Duration(total * float64(time.Second))
}

func reportServer(b *testing.B, s *redistest.Server, began time.Duration) {
	b.Helper()
	b.ReportMetric(float64((serverTime(b, s)-began).Microseconds())/float64(b.N), "server-µs/op")
}

func BenchmarkStore(b *testing.B) {
	s, server := benchStore(b)
	ctx := context.Background()
	at := time.Now().Add(2 * time.Hour)
	list := func(metadata map[string]string, states ...sandbox.State) func() error {
		return func() error {
			_, err := s.List(ctx, sandbox.Query{Tenant: "t", Metadata: metadata, States: states, Limit: 20})
			return err
		}
	}
	for _, bc := range []struct {
		name string
		do   func() error
	}{
		{"Renew", func() error {
			_, err := s.Renew(ctx, benchID(rand.IntN(benchRecords)), "t", at.Add(time.Duration(rand.IntN(1e9))))
			return err
		}},
		{"Get", func() error { _, err := s.Get(ctx, benchID(rand.IntN(benchRecords))); return err }},
		{"List1Percent", list(map[string]string{"rare": "7"})},
		{"List50Percent", list(map[string]string{"half": "1"})},
		{"ListStateAndLabel", list(map[string]string{"half": "1"}, sandbox.StatePending)},
		{"ListTwoLabels", list(map[string]string{"half": "1", "rare": "7"})},
		{"Counts", func() error { _, err := s.Counts(ctx); return err }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.SetParallelism(16)
			began := serverTime(b, server)
			defer reportServer(b, server, began)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := bc.do(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	b.Run("Expire", func(b *testing.B) {
		for i := range b.N {
			n := sandbox.New{ID: sandbox.ID(fmt.Sprintf("due-%d-%d", b.N, i)), Tenant: "t", Accepted: true, Spec: sandboxtest.Spec(time.Microsecond)}
			if _, err := s.Insert(ctx, n); err != nil {
				b.Fatal(err)
			}
		}
		began := serverTime(b, server)
		b.ResetTimer()
		for n := 0; n < b.N; {
			due, err := s.ExpireDue(ctx, time.Now(), 500)
			if err != nil {
				b.Fatal(err)
			}
			n += len(due)
		}
		reportServer(b, server, began)
	})
}
