package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sqlitestore"
)

const records = 10_000

// madeUp begins the ids of the records that fill writes.
const madeUp = "00000000-0000-4000-8000-"

// fill writes records into the store of a stopped server, once, as if they ran on another node.
func (b *bench) fill() ([]string, error) {
	if b.filled != nil {
		return b.filled, nil
	}
	ctx := b.ctx
	st, err := sqlitestore.Open(ctx, b.store())
	if err != nil {
		return nil, err
	}
	defer st.Close()
	n, err := st.Register(ctx, node.Registration{Name: "elsewhere", EngineID: "elsewhere", PortMin: 1024, PortMax: 65535})
	if err != nil {
		return nil, err
	}
	ids := make([]string, records)
	for i := range records {
		id := sandbox.ID(fmt.Sprintf(madeUp+"%012d", i))
		_, err := st.Insert(ctx, sandbox.New{ID: id, Accepted: true, Metadata: map[string]string{"team": fmt.Sprintf("t%d", i%10), "run": strconv.Itoa(i)},
			Spec: sandbox.Spec{Image: image, Entrypoint: []string{"tail", "-f", "/dev/null"}, Timeout: 24 * time.Hour, Env: map[string]string{"A": "b"}}})
		if err != nil {
			return nil, err
		}
		if _, err := st.Place(ctx, sandbox.PlaceRequest{ID: id, Ports: []int{44772, 8080}, Candidates: []sandbox.Candidate{{Node: "elsewhere", PortMin: 1024, PortMax: 65535}}}); err != nil {
			return nil, err
		}
		if _, err := st.Report(ctx, sandbox.Report{ID: id, Node: "elsewhere", Epoch: 1, Session: n.Session, Generation: 1, State: sandbox.StateRunning, Reason: sandbox.ReasonRunning,
			Addresses: sandbox.Addresses{ContainerIP: "10.0.0.1", Ports: map[int]int{44772: 1, 8080: 2}}}); err != nil {
			return nil, err
		}
		ids[i] = string(id)
	}
	b.filled = ids
	return ids, nil
}

// reads measures GET and list with many records, and the memory of the server.
func (b *bench) reads() error {
	if err := b.stop(); err != nil {
		return err
	}
	ids, err := b.fill()
	if err != nil {
		return err
	}
	took, err := timed(b.start)
	if err != nil {
		return err
	}
	b.add(result{Section: "reads", Name: fmt.Sprintf("start to /health with %d records", records), Samples: []float64{took}})
	samples, rate, failed := hammer(b.ctx, b.base, 16, 10*time.Second, func(i int) shot { return get("/v1/sandboxes/" + ids[(i*7919)%records]) })
	b.add(result{Section: "reads", Name: "GET by id, 16 connections", Samples: samples, OK: len(samples) - failed, Tried: len(samples), Note: fmt.Sprintf("%.0f requests/s; target ≥ 10000/s, p99 ≤ 10 ms", rate)})
	samples, rate, failed = hammer(b.ctx, b.base, 4, 5*time.Second, func(i int) shot {
		return get(fmt.Sprintf("/v1/sandboxes?pageSize=20&metadata=team%%3Dt%d", i%10))
	})
	b.add(result{Section: "reads", Name: "list, one metadata filter, page of 20, 4 connections", Samples: samples, OK: len(samples) - failed, Tried: len(samples), Note: fmt.Sprintf("%.0f requests/s; target p99 ≤ 20 ms", rate)})
	b.add(result{Section: "reads", Name: "memory of the server (VmRSS)", Samples: []float64{b.rss("VmRSS")}, Unit: "MB", Note: fmt.Sprintf("peak %.0f MB; target ≤ 150", b.rss("VmHWM"))})
	return nil
}

// rss returns a memory figure of the server in MB.
func (b *bench) rss(name string) float64 { return memoryOf(b.server.Process.Pid, name) }

func memoryOf(pid int, name string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseFloat(fields[0], 64)
	return kb / 1024
}

// commands measures "true" through the daemon beside fork+exec of the same shell.
func (b *bench) commands() error {
	id, err := b.create()
	if err != nil {
		return err
	}
	url, token, err := b.endpoint(id, daemonPort)
	if err != nil {
		return err
	}
	var base, ours []float64
	for i := range 200 {
		f, err := timed(func() error { return exec.Command("/bin/busybox", "sh", "-c", "true").Run() })
		if err != nil {
			return err
		}
		o, err := timed(func() error { return b.command(url, token, "true") })
		if err != nil {
			return err
		}
		if i >= 10 {
			base, ours = append(base, f), append(ours, o)
		}
	}
	r := b.add(result{Section: "commands", Name: "fork+exec of sh -c true", Samples: base})
	got := result{Section: "commands", Name: "true through the daemon", Samples: ours}
	got.Note = fmt.Sprintf("median %+.2f ms over fork+exec; target ≤ +5", got.p(50)-r.p(50))
	b.add(got)
	return b.remove(id)
}

const fileSize = 256 << 20

// files measures upload and download through the daemon beside a plain file server in Go that syncs what it writes. That server runs in the
// same sandbox, behind a published port of the same kind, so that both have the same disk, processor and way.
func (b *bench) files() error {
	content := make([]byte, fileSize)
	_, _ = rand.Read(content[:1<<20])
	id, err := b.create()
	if err != nil {
		return err
	}
	url, token, err := b.endpoint(id, daemonPort)
	if err != nil {
		return err
	}
	plain, err := b.plainServer(id, url, token)
	if err != nil {
		return err
	}
	if err := b.transfers("files", url, token, plain, "/tmp/f", content); err != nil {
		return err
	}
	out, err := exec.Command("docker", "inspect", "-f", "{{.State.Pid}}", "sandbox-"+id).Output()
	if err != nil {
		return err
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	b.add(result{Section: "files", Name: "memory of the daemon afterwards (VmRSS)", Samples: []float64{memoryOf(pid, "VmRSS")}, Unit: "MB", Note: fmt.Sprintf("peak %.0f MB", memoryOf(pid, "VmHWM"))})
	return b.remove(id)
}

// transfers uploads and downloads a file through the daemon in turn with the plain file server.
func (b *bench) transfers(section, url, token, plain, path string, content []byte) error {
	rates := map[string][]float64{}
	for range 7 {
		for _, x := range []struct {
			name string
			do   func() error
		}{
			{"plain upload", func() error {
				return b.send("PUT", plain+"/f", "", "application/octet-stream", bytes.NewReader(content))
			}},
			{"upload", func() error { return b.upload(url, token, path, 644, content) }},
			{"plain download", func() error { return b.send("GET", plain+"/f", "", "", nil) }},
			{"download", func() error { return b.send("GET", url+"/files/download?path="+path, token, "", nil) }},
		} {
			t, err := timed(x.do)
			if err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
			rates[x.name] = append(rates[x.name], fileSize/1e6/(t/1000))
		}
	}
	for _, k := range []string{"upload", "download"} {
		base := b.add(result{Section: section, Name: "plain Go file server: " + k, Samples: rates["plain "+k], Unit: "MB/s"})
		got := result{Section: section, Name: k + " through the daemon, 256 MB", Samples: rates[k], Unit: "MB/s"}
		got.Note = fmt.Sprintf("%.0f %% of plain; target ≥ 80 %%", 100*got.p(50)/base.p(50))
		b.add(got)
	}
	return nil
}

// upload sends a file through the daemon as the published clients do.
func (b *bench) upload(url, token, path string, mode int, content []byte) error {
	body, kind := multipartOf(path, mode, content)
	return b.send("POST", url+"/files/upload", token, kind, body)
}

// plainServer puts this program into the sandbox and lets it serve files there.
func (b *bench) plainServer(id, url, token string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if err := b.upload(url, token, "/tmp/plain", 755, program); err != nil {
		return "", err
	}
	command := m{"argv": []string{"/tmp/plain", "-serve", ":8080"}, "background": true}
	body, err := json.Marshal(command)
	if err != nil {
		return "", err
	}
	if err := b.send("POST", url+"/command", token, "application/json", bytes.NewReader(body)); err != nil {
		return "", err
	}
	address, _, err := b.endpoint(id, 8080)
	if err != nil {
		return "", err
	}
	for range 500 {
		if err = b.send("PUT", address+"/f", "", "", strings.NewReader("x")); err == nil {
			return address, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("the plain file server never answered (it must be linked statically: CGO_ENABLED=0): %w", err)
}

// multipartOf wraps a file as the published clients do, without copying it.
func multipartOf(path string, mode int, content []byte) (io.Reader, string) {
	var head, tail bytes.Buffer
	w := multipart.NewWriter(&head)
	meta, _ := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="metadata"; filename="metadata"`}, "Content-Type": {"application/json"}})
	fmt.Fprintf(meta, `{"path":%q,"mode":%d}`, path, mode)
	_, _ = w.CreateFormFile("file", "f") // writes the header of the part to memory
	fmt.Fprintf(&tail, "\r\n--%s--\r\n", w.Boundary())
	return io.MultiReader(&head, bytes.NewReader(content), &tail), w.FormDataContentType()
}

func (b *bench) send(method, url, token, kind string, body io.Reader) error {
	req, err := http.NewRequestWithContext(b.ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-EXECD-ACCESS-TOKEN", token)
	req.Header.Set("Content-Type", kind)
	res, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", res.Status)
	}
	return nil
}

// serveFiles stores what is put to it with fsync and serves it again; at /bytes/N it serves N bytes, at /ping nothing.
func serveFiles(address string) error {
	path := filepath.Join(os.TempDir(), "plain-file")
	s := &http.Server{Addr: address, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ping" {
			return
		}
		if n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/bytes/"), 10, 64); err == nil {
			serveBytes(w, n)
			return
		}
		if r.Method == http.MethodGet {
			http.ServeFile(w, r, path)
			return
		}
		f, err := os.Create(path)
		if err == nil {
			_, err = io.Copy(f, r.Body)
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil || f.Close() != nil {
			http.Error(w, "failed", http.StatusInternalServerError)
		}
	})}
	return s.ListenAndServe()
}

// serveBytes answers with n bytes.
func serveBytes(w http.ResponseWriter, n int64) {
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	block := make([]byte, min(n, 256<<10))
	for n > 0 {
		k, err := w.Write(block[:min(n, int64(len(block)))])
		if err != nil {
			return // the client has gone
		}
		n -= int64(k)
	}
}
