//go:build integration

package integration

import (
	"bufio"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is what the daemon takes of it, in KiB; 0 when that cannot be seen.
func (c *container) memory() int {
	fields := strings.Fields(c.sh("busybox grep VmRSS /proc/1/status"))
	if len(fields) < 2 {
		return 0
	}
	kib, _ := strconv.Atoi(fields[1])
	return kib
}

// ended waits until no command runs any more.
func (a *abused) ended() {
	a.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		now := a.count()
		if now.processes > 0 && now.processes <= a.before.processes {
			return
		}
		if time.Now().After(deadline) {
			a.t.Errorf("commands wait for their readers: %d processes, at first %d", now.processes, a.before.processes)
			return
		}
	}
}

// TestAbuseSlowReaders: readers that stop cost the daemon next to no memory, hold no command up, and lose nothing.
func TestAbuseSlowReaders(t *testing.T) {
	a := abuse(t)
	const readers, lines = 100, 50_000
	var stalled, all sync.WaitGroup
	stalled.Add(readers)
	release := make(chan struct{})
	for range readers {
		all.Go(func() {
			got, last, err := a.readLater("busybox seq 1 "+strconv.Itoa(lines), stalled.Done, release)
			if err != nil || got != lines || !strings.Contains(last, "execution_complete") {
				t.Errorf("a slow reader got %d lines, want %d; the last event is %s; %v", got, lines, last, err)
			}
		})
	}
	stalled.Wait()
	a.ended()
	kib := a.memory()
	t.Logf("memory of the daemon with %d stalled readers: %d KiB", readers, kib)
	if kib == 0 || kib > 128<<10 {
		t.Errorf("the daemon takes %d KiB, want less than 128 MiB", kib)
	}
	close(release)
	all.Wait()
	a.before.files += spillDirectory
	a.over()
}

// TestAbuseStalledReader: a command writes far more than memory should hold, and ends, while its reader takes nothing.
func TestAbuseStalledReader(t *testing.T) {
	a := abuse(t)
	lines := scale(64<<20, 1000<<20) / 4096
	stalled, release, read := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		script := "busybox yes $(busybox printf %04095d 0) | busybox head -n " + strconv.FormatInt(lines, 10)
		got, last, err := a.readLater(script, func() { close(stalled) }, release)
		if err != nil || got != lines || !strings.Contains(last, "execution_complete") {
			t.Errorf("the reader got %d lines, want %d; the last event is %s; %v", got, lines, last, err)
		}
	}()
	<-stalled
	a.ended()
	a.before.files += spillDirectory
	if now := a.count(); now.files > a.before.files {
		t.Errorf("files with a name: %+v, at first %+v", now, a.before)
	}
	kib := a.memory()
	t.Logf("memory of the daemon with %d MiB that wait: %d KiB", lines*4096>>20, kib)
	if kib == 0 || kib > 64<<10 {
		t.Errorf("the daemon takes %d KiB, want less than 64 MiB", kib)
	}
	close(release)
	<-read
	a.over()
}

// readLater runs a command, says that it has begun, and reads the answer after the release. It returns the number of lines of output and the
// last event.
func (c *container) readLater(script string, stalled func(), release <-chan struct{}) (lines int64, last string, err error) {
	res, err := c.command(script, "")
	if err != nil {
		stalled()
		return 0, "", err
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	_, _ = r.ReadString('\n')
	stalled()
	<-release
	return countLines(r, `"type":"stdout"`)
}
