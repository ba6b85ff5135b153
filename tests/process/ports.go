package process

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// given are the ports that FreePort has returned: whom it was given to may not listen on it yet.
var given sync.Map

// FreePort returns a port that nobody listens on now, and each port once. It lies below those of outgoing connections (32768 and up), one of which could else get
// it while a server is started again, and above those of sandboxes.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 30_000 + rand.IntN(2_700)
		if l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			if _, taken := given.LoadOrStore(port, true); !taken {
				return port
			}
		}
	}
	t.Fatal("no free port")
	return 0
}

// SandboxPorts returns the ports that a platform may publish those of its sandboxes on. They differ from platform to platform, so that those side by side
// do not take each other's.
func SandboxPorts() (least, most int) {
	least = 20_000 + rand.IntN(90)*100
	return least, least + 1000
}
