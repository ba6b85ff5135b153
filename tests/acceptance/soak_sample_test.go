//go:build e2e

package acceptance

import (
	"bufio"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// measure is what is measured of something.
type measure string

// What is measured of each process.
const (
	residentMemory measure = "resident memory"
	liveHeap       measure = "heap after a collection"
	descriptors    measure = "descriptors"
	goroutines     measure = "goroutines"
	threads        measure = "threads"
)

// What is measured of each engine: what carries the label of this installation, and on an engine that nobody else uses all that is there.
const (
	containersOfOurs measure = "containers"
	volumesOfOurs    measure = "volumes"
	networksOfOurs   measure = "networks"
	containersAtAll  measure = "containers of anybody"
	volumesAtAll     measure = "volumes of anybody"
	networksAtAll    measure = "networks of anybody"
)

// What is measured of a directory.
const (
	files       measure = "files"
	sizeOfFiles measure = "size of files"
)

// quantity is one measured thing.
type quantity struct {
	of   string
	what measure
}

func (q quantity) String() string { return q.of + ": " + string(q.what) }

// amounts are all quantities at one time. Memory and sizes are in bytes.
type amounts map[quantity]float64

// sample are the amounts at a time since the beginning.
type sample struct {
	phase string
	at    time.Duration
	amounts
}

// look measures everything. exactly has each process collect its garbage before, which costs it some hundred answers.
func (k *soak) look(phase string, exactly bool) amounts {
	k.s.t.Helper()
	in := amounts{}
	if exactly {
		k.collect()
	}
	for _, p := range k.s.programs {
		k.process(in, p.name)
	}
	k.engines(in)
	k.directories(in)
	k.store(in)
	k.samples = append(k.samples, sample{phase, time.Since(k.began), in})
	return in
}

// scraper keeps no connections, so that it is one descriptor of each process while it asks, and none else.
var scraper = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}, Timeout: patience}

// scrape returns the metrics of a process that have no labels.
func (k *soak) scrape(process string) map[string]float64 {
	t := k.s.t
	t.Helper()
	res, err := scraper.Get(k.admin[process] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(text, 64); ok && err == nil && !strings.ContainsAny(name, "#{") {
			values[name] = v
		}
	}
	if values["go_goroutines"] == 0 {
		t.Fatalf("%s has no metrics of its runtime: %s", process, res.Status)
	}
	return values
}

// collections is what has to have happened before a heap is looked at: the first one may have begun before.
const collections = 2

// collect asks each process for its metrics until the garbage of the answers has made it collect.
func (k *soak) collect() {
	k.s.t.Helper()
	var processes sync.WaitGroup
	for name := range k.admin {
		processes.Go(func() {
			const count = "go_gc_duration_seconds_count"
			var first float64
			for i := range 20_000 {
				v, err := metric(k.admin[name], count)
				switch {
				case err != nil:
					k.s.t.Errorf("%s: %v", name, err)
					return
				case i == 0:
					first = v
				case v >= first+collections:
					return
				}
			}
			k.s.t.Errorf("%s does not collect its garbage", name)
		})
	}
	processes.Wait()
}

// metric returns one metric. Its connections are kept until the next look, which has others.
func metric(base, name string) (float64, error) {
	res, err := scraper.Get(base + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// process adds what a process holds.
func (k *soak) process(in amounts, name string) {
	k.s.t.Helper()
	values := k.scrape(name)
	for what, metric := range map[measure]string{
		residentMemory: "process_resident_memory_bytes", liveHeap: "go_memstats_heap_alloc_bytes", descriptors: "process_open_fds", goroutines: "go_goroutines", threads: "go_threads",
	} {
		v, ok := values[metric]
		if !ok {
			k.s.t.Fatalf("%s has no metric %s", name, metric)
		}
		in[quantity{name, what}] = v
	}
}

// engines adds what the engines have.
func (k *soak) engines(in amounts) {
	k.s.t.Helper()
	ours := "label=dev.opensandbox.installation=" + k.s.installation()
	for i, engine := range k.s.engines() {
		count := func(what measure, args ...string) {
			in[quantity{fmt.Sprintf("engine %d", i), what}] = float64(len(strings.Fields(docker(k.s.t, append(engine, args...)...))))
		}
		count(containersOfOurs, "ps", "-aq", "--filter", ours)
		count(volumesOfOurs, "volume", "ls", "-q", "--filter", ours)
		count(networksOfOurs, "network", "ls", "-q", "--filter", "label=dev.opensandbox.role=network")
		if len(engine) > 0 {
			count(containersAtAll, "ps", "-aq")
			count(volumesAtAll, "volume", "ls", "-q")
			count(networksAtAll, "network", "ls", "-q")
		}
	}
}

// directories adds what the agents have on their disks.
func (k *soak) directories(in amounts) {
	k.s.t.Helper()
	found, err := filepath.Glob(filepath.Join(k.s.dir, "state*"))
	if err != nil || len(found) == 0 {
		k.s.t.Fatalf("directories of the agents: %q, %v", found, err)
	}
	for _, dir := range found {
		name := "directory " + filepath.Base(dir)
		err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			in[quantity{name, files}]++
			info, err := e.Info()
			if err == nil {
				in[quantity{name, sizeOfFiles}] += float64(info.Size())
			}
			return err
		})
		// A journal that is just written anew has another name for a moment.
		if err != nil && !os.IsNotExist(err) {
			k.s.t.Fatal(err)
		}
	}
}
