package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	dockerimage "github.com/docker/docker/api/types/image"
)

// referenceImage carries our daemon in the form in which the reference server takes one from an image.
const referenceImage = "opensandbox/bench-execd:dev"

// bootstrap starts the daemon beside the entry point, which is what the reference server's own script does.
const bootstrap = "#!/bin/sh\nexport EXECD_ENVS=/tmp/execd.env\n/opt/opensandbox/execd &\nexec \"$@\"\n"

// reference measures the reference server, the PyPI package opensandbox-server, in the same run. Its virtual environment is named by
// OPENSANDBOX_REFERENCE_VENV; without it this section says so and does nothing.
func (b *bench) reference() error {
	venv := os.Getenv("OPENSANDBOX_REFERENCE_VENV")
	if venv == "" {
		b.add(result{Section: "reference", Name: "not measured", Note: "OPENSANDBOX_REFERENCE_VENV is not set"})
		return nil
	}
	if err := b.referenceExecd(); err != nil {
		return err
	}
	ours, server := b.base, b.server
	defer func() { b.base, b.server = ours, server }()
	stop, err := b.startReference(venv)
	if err != nil {
		return err
	}
	defer stop()
	var samples []float64
	for i := range rounds + 1 {
		var id string
		t, err := timed(func() (err error) { id, err = b.create(); return err })
		if err != nil {
			return err
		}
		if err := b.remove(id); err != nil {
			return err
		}
		if i > 0 {
			samples = append(samples, t)
		}
	}
	b.add(result{Section: "reference", Name: "create → 202 (does not wait for the daemon)", Samples: samples})
	const count = 100
	ids := make([]string, count)
	var ok int
	took, _ := timed(func() error {
		ok, _ = each(count, count, func(i int) (err error) { ids[i], err = b.create(); return err })
		return nil
	})
	b.add(result{Section: "reference", Name: "100 creates at once", Samples: []float64{float64(ok) / took * 1000}, Unit: "creates/s", OK: ok, Tried: count})
	got, rate, failed := hammer(b.ctx, b.base, 16, 5*time.Second, func(i int) shot { return get("/v1/sandboxes/" + ids[i%count]) })
	b.add(result{Section: "reference", Name: "GET by id, 16 connections, 100 sandboxes", Samples: got, OK: len(got) - failed, Tried: len(got), Note: fmt.Sprintf("%.0f requests/s", rate)})
	b.add(result{Section: "reference", Name: "memory (VmRSS)", Samples: []float64{b.rss("VmRSS")}, Unit: "MB"})
	_, err = each(count, 8, func(i int) error {
		if ids[i] == "" {
			return nil
		}
		return b.remove(ids[i])
	})
	return err
}

// referenceExecd imports an image with the daemon, the script and a shell.
func (b *bench) referenceExecd() error {
	daemon, err := os.ReadFile(filepath.Join(filepath.Dir(b.binary), "opensandbox-execd"))
	if err != nil {
		return err
	}
	shell, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	var tape bytes.Buffer
	w := tar.NewWriter(&tape)
	for _, f := range []struct {
		name string
		body []byte
		link string
	}{{"execd", daemon, ""}, {"bootstrap.sh", []byte(bootstrap), ""}, {"bin/busybox", shell, ""}, {"bin/sh", nil, "busybox"}, {"bin/tail", nil, "busybox"}} {
		h := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(f.body); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	res, err := b.docker.ImageImport(b.ctx, dockerimage.ImportSource{Source: &tape, SourceName: "-"}, referenceImage, dockerimage.ImportOptions{})
	if err != nil {
		return err
	}
	defer res.Close()
	_, err = io.Copy(io.Discard, res)
	return err
}

func (b *bench) startReference(venv string) (stop func(), err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	home := filepath.Join(b.dir, "reference")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(home, "server.toml")
	text := fmt.Sprintf("[server]\nhost = \"127.0.0.1\"\nport = %s\napi_key = %q\n[runtime]\ntype = \"docker\"\nexecd_image = %q\n[docker]\nnetwork_mode = \"bridge\"\n", port, apiKey, referenceImage)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(b.out, "reference.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(venv, "bin", "opensandbox-server"), "--config", config)
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	b.base, b.server = "http://"+address, cmd
	for range 6000 {
		if res, err := b.http.Get(b.base + "/version"); err == nil {
			defer res.Body.Close()
			var v struct{ Version string }
			if json.NewDecoder(res.Body).Decode(&v) == nil && res.StatusCode == http.StatusOK {
				b.add(result{Section: "reference", Name: "opensandbox-server " + strings.TrimSpace(v.Version), Note: "PyPI"})
				return stop, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("the reference server never answered; see %s", log.Name())
}
