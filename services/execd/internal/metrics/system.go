package metrics

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// System are figures of the sandbox besides processor and memory.
type System struct {
	Processes int
	// Received and Sent are bytes of all interfaces but loopback since they came up.
	Received, Sent uint64
	// TCP are established connections, UDP sockets.
	TCP, UDP int
}

// System reads what can be read: figures whose file is missing stay 0, and the error says so.
func (s *Sampler) System() (System, error) {
	var out System
	entries, err := os.ReadDir(s.proc)
	if err != nil {
		err = fmt.Errorf("processes: %w", err)
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			out.Processes++
		}
	}
	data, nerr := os.ReadFile(filepath.Join(s.proc, "net", "dev"))
	if nerr != nil {
		nerr = fmt.Errorf("network figures: %w", nerr)
	}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		received, _ := strconv.ParseUint(fields[0], 10, 64) // Text of the kernel; a heading has no colon.
		sent, _ := strconv.ParseUint(fields[8], 10, 64)
		out.Received, out.Sent = out.Received+received, out.Sent+sent
	}
	for _, version := range []string{"", "6"} {
		out.TCP += s.sockets("tcp"+version, "01")
		out.UDP += s.sockets("udp"+version, "")
	}
	return out, errors.Join(err, nerr)
}

// sockets counts lines of a socket table, of one state unless it is empty. A kernel without IPv6 has no table for it.
func (s *Sampler) sockets(table, state string) int {
	data, err := os.ReadFile(filepath.Join(s.proc, "net", table))
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[0], ":") && (state == "" || fields[3] == state) {
			n++
		}
	}
	return n
}
