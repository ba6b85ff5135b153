package command

import (
	"bytes"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stallingSink takes nothing until open is closed.
type stallingSink struct {
	open chan struct{}
	got  atomic.Int64
}

func (s *stallingSink) Started(string) {}

func (s *stallingSink) Output(_ string, lines [][]byte) error {
	<-s.open
	for _, l := range lines {
		s.got.Add(int64(len(l)))
	}
	return nil
}

// TestTheLastWordsReachASlowReader: a command ends while its output is being read, and its reader takes nothing until the drain
// is long over. Each round
// lets the end and the read meet anew; more threads than processors stop one between the two steps of a read.
func TestTheLastWordsReachASlowReader(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * runtime.NumCPU()))
	const rounds, size = 1000, readSize + readSize/4
	words := bytes.Repeat([]byte("word\n"), size/5)
	var all sync.WaitGroup
	defer all.Wait()
	for i := range rounds {
		sink := &stallingSink{open: make(chan struct{})}
		p, err := newPump("stdout", sink, spillFile{allowed: newAllowance(0)})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(p.run)
		w := os.NewFile(p.writeEnd, "the command's end")
		began := time.Now()
		if _, err := w.Write(words); err != nil {
			t.Fatal(err)
		}
		for wait := time.Duration(i%100) * time.Microsecond; time.Since(began) < wait; {
		}
		p.leaderEnded()
		all.Go(func() {
			defer w.Close()
			time.Sleep(drainMax + drainIdle)
			close(sink.open)
			<-p.delivered
			if got := sink.got.Load(); got != int64(len(words)) {
				t.Errorf("the reader got %d bytes, want %d", got, len(words))
			}
		})
	}
}
