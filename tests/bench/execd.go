package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// daemon is the daemon of sandboxes, as a child of this program: nothing of an engine is between it and what it is compared with.
type daemon struct {
	cmd           *exec.Cmd
	address       string
	token, folder string
}

// withDaemon returns a section that has a daemon to itself.
func (b *bench) withDaemon(measure func(*daemon) error) func() error {
	return func() error {
		d, err := b.startDaemon()
		if err != nil {
			return err
		}
		defer d.stop()
		return measure(d)
	}
}

// startDaemon runs the daemon with what follows its own options, and waits until it answers.
func (b *bench) startDaemon(more ...string) (*daemon, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	d := &daemon{address: address, token: rand.Text()}
	if d.folder, err = os.MkdirTemp(b.dir, "execd-"); err != nil {
		return nil, err
	}
	d.cmd = exec.Command(b.execd, append([]string{"--port", port}, more...)...)
	d.cmd.Env = append(os.Environ(), "EXECD_ACCESS_TOKEN="+d.token, "EXECD_ENVS="+filepath.Join(d.folder, "env"), "TMPDIR="+d.folder)
	d.cmd.Stderr = os.Stderr
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err := answers(address); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// stop ends the daemon and what it has written. With an entry point, the daemon passes the signal on to it and ends with it.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	_ = os.RemoveAll(d.folder)
}

func (d *daemon) url() string { return "http://" + d.address }

// answers waits until /ping is answered, and looks often: what is measured may take less than a millisecond.
func answers(address string) error {
	for range 100_000 {
		if ping(address) {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	return fmt.Errorf("nothing ever answered at %s", address)
}

func ping(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"); err != nil {
		return false
	}
	answer, _ := io.ReadAll(conn)
	return bytes.HasPrefix(answer, []byte("HTTP/1.1 200"))
}

// plainChild runs this program as the plain file server. stop ends it.
func (b *bench) plainChild() (url string, stop func(), err error) {
	address, err := freeAddress()
	if err != nil {
		return "", nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, "-serve", address)
	cmd.Env = append(os.Environ(), "TMPDIR="+b.dir)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if err := answers(address); err != nil {
		stop()
		return "", nil, err
	}
	return "http://" + address, stop, nil
}

const roundTrips = 300

// daemonRoundTrips measures a command that does nothing beside fork and exec of the same one.
func (b *bench) daemonRoundTrips(d *daemon) error {
	shell, err := exec.LookPath("bash")
	if err != nil {
		shell = "sh" // As the daemon does.
	}
	for _, way := range []struct {
		name string
		argv []string
		body m
	}{
		{"true of the shell", []string{shell, "-c", "true"}, m{"command": "true"}},
		{"/bin/true", []string{"/bin/true"}, m{"argv": []string{"/bin/true"}}},
	} {
		var raw, ours []float64
		for i := range roundTrips {
			r, err := timed(func() error { return exec.Command(way.argv[0], way.argv[1:]...).Run() })
			if err != nil {
				return err
			}
			o, err := timed(func() error { return b.runInDaemon(d, way.body) })
			if err != nil {
				return err
			}
			if i >= roundTrips/10 {
				raw, ours = append(raw, r), append(ours, o)
			}
		}
		base := b.add(result{Section: "execd-commands", Name: "fork+exec: " + way.name, Samples: raw})
		got := result{Section: "execd-commands", Name: "through the daemon: " + way.name, Samples: ours}
		got.Note = fmt.Sprintf("median %+.2f ms; target ≤ +2", got.p(50)-base.p(50))
		b.add(got)
	}
	return nil
}

// runInDaemon runs a command and returns when its stream has ended.
func (b *bench) runInDaemon(d *daemon, command m) error {
	j, err := json.Marshal(command)
	if err != nil {
		return err
	}
	return b.post(d.url(), d.token, j)
}
