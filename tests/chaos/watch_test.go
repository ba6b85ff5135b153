//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// lookEvery is the pause between two looks at an engine; how late or early something is seen.
const lookEvery = 300 * time.Millisecond

// sighting is what was seen of one container.
type sighting struct {
	engine        *engine
	container, id string
	epoch         string
	// ran says that it was seen running; dead is when it was first seen not to run any more, gone when it was first not seen.
	ran        bool
	running    bool
	dead, gone time.Time
}

// watch looks at both engines during the run.
type watch struct {
	p       *platform
	stop    context.CancelFunc
	workers sync.WaitGroup

	mu    sync.Mutex
	seen  map[string]*sighting
	twice map[string]bool
	// ends are what the engines have told of containers that have ended, by the container.
	ends map[string]sighting
}

func (p *platform) watchEngines(t *testing.T) *watch {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{p: p, stop: cancel, seen: map[string]*sighting{}, twice: map[string]bool{}, ends: map[string]sighting{}}
	for _, e := range p.engines {
		w.workers.Go(func() { w.listen(ctx, e) })
		w.workers.Go(func() {
			for tick := time.NewTicker(lookEvery); ctx.Err() == nil; {
				w.look(ctx, e)
				select {
				case <-tick.C:
				case <-ctx.Done():
					tick.Stop()
				}
			}
		})
	}
	t.Cleanup(func() { w.end() })
	return w
}

// end stops looking and returns all that was seen.
func (w *watch) end() *watch {
	w.stop()
	w.workers.Wait()
	return w
}

// containers lists those of the sandboxes on an engine.
func (p *platform) containers(ctx context.Context, e *engine) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "dev.opensandbox.installation="+p.Installation))})
	return slices.DeleteFunc(list, func(c container.Summary) bool { return c.Labels["opensandbox.io/id"] == "" }), err
}

func (w *watch) look(ctx context.Context, e *engine) {
	list, err := w.p.containers(ctx, e)
	if err != nil {
		return // the engine is away
	}
	at := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[string]bool{}
	for _, c := range list {
		there[c.ID] = true
		s := w.seen[c.ID]
		if s == nil {
			s = &sighting{engine: e, container: c.ID, id: c.Labels["opensandbox.io/id"], epoch: c.Labels["dev.opensandbox.epoch"]}
			w.seen[c.ID] = s
		}
		s.running = c.State == "running"
		switch alive := s.running || c.State == "paused"; {
		case alive:
			s.ran = true
		case s.ran && s.dead.IsZero():
			s.dead = at
		}
	}
	for id, s := range w.seen {
		if s.engine == e && !there[id] && s.gone.IsZero() {
			s.gone, s.running = at, false
			if s.dead.IsZero() {
				s.dead = at
			}
		}
	}
	w.noteTwice()
}

// noteTwice looks for two containers of one epoch that are there at a time.
func (w *watch) noteTwice() {
	count := map[string]int{}
	for _, s := range w.seen {
		if s.gone.IsZero() {
			count[s.id+" of epoch "+s.epoch]++
		}
	}
	for what, n := range count {
		if n > 1 {
			w.twice[fmt.Sprintf("%d containers of %s", n, what)] = true
		}
	}
}

// anyRunning chooses a container that runs.
func (w *watch) anyRunning(rng *rand.Rand) (sighting, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for id, s := range w.seen {
		if s.running && s.gone.IsZero() {
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return sighting{}, false
	}
	slices.SortFunc(all, strings.Compare)
	return *w.seen[all[rng.IntN(len(all))]], true
}
