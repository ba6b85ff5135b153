package daemon

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"opensandbox/services/execd/internal/pid1"
)

const (
	// settle is how long an entry point must live before execd answers: one that fails at once must look like a failed start.
	settle = 4 * time.Millisecond
	// portWait is how long execd waits for its port. On the network of its node the kernel may just have given it to an outgoing connection. One that
	// this side has closed keeps it for a minute, which nobody would wait for.
	portWait = 2 * time.Second
	// portRetry is the time between two tries.
	portRetry = 20 * time.Millisecond
)

// open listens, unless the entry point fails at once.
func (a *app) open(port int, work *pid1.Workload) (bool, error) {
	settled := time.Now().Add(settle)
	reserveThreads() // In the time that has to pass anyway.
	if work != nil && endsBy(work, settled) {
		return false, nil
	}
	err := a.listen(port)
	return err == nil, err
}

// endsBy reports whether the entry point ends before t.
func endsBy(work *pid1.Workload, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-work.Done():
		return true
	case <-timer.C:
		return false
	}
}

// listen serves from here on, or from when the port gets free. If it does not, a.failed says so, which whoever waits for signals and for the entry
// point meanwhile looks at anyway.
func (a *app) listen(port int) error {
	ln, err := bind(port)
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	a.serving.Go(func() { // Ends, and is waited for, when a.close ends the wait for the port and closes the server.
		if err != nil {
			if ln, err = a.awaitPort(port); err != nil {
				a.failed <- err
				return
			}
		}
		close(a.listening)
		a.failed <- a.server.Serve(ln)
	})
	return nil
}

// awaitPort tries to listen again and again while something else has the port.
func (a *app) awaitPort(port int) (net.Listener, error) {
	end := time.Now().Add(portWait)
	tick := time.NewTicker(portRetry)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return nil, a.ctx.Err()
		case now := <-tick.C:
			ln, err := bind(port)
			switch {
			case err == nil:
				return ln, nil
			case !errors.Is(err, syscall.EADDRINUSE):
				return nil, err
			case now.After(end):
				return nil, fmt.Errorf("port %d was in use for %s: %w", port, portWait, err)
			}
		}
	}
}

func bind(port int) (net.Listener, error) {
	return net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(port)))
}
