package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// proxyPort is published by no node, so that both proxies go to the address of the container.
	proxyPort        = 9300
	proxyConnections = 100
	largeBody        = 1 << 30
)

// proxies measures the server's own proxy beside nginx in front of the same program in a sandbox, in turn.
func (b *bench) proxies() error {
	// Without limits, so that the program is not what is measured.
	status, body, err := b.call("POST", "/v1/sandboxes", m{"image": m{"uri": image}, "entrypoint": []string{"tail", "-f", "/dev/null"}, "timeout": 3600, "resourceLimits": m{}})
	if err != nil || status != http.StatusAccepted {
		return fmt.Errorf("create: %d %s %w", status, body, err)
	}
	made, err := sandboxOf(body)
	if err != nil {
		return err
	}
	id := made.ID
	backend, err := b.plainAt(id, proxyPort)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/v1/sandboxes/%s/proxy/%d", id, proxyPort)
	nginx, stop, err := b.startNginx(backend, path)
	if err != nil {
		return err
	}
	defer stop()
	if err := b.proxyRates(backend, nginx, path); err != nil {
		return err
	}
	if err := b.proxyVolume(nginx, path); err != nil {
		return err
	}
	return b.remove(id)
}

// plainAt lets this program serve in a sandbox, and returns where.
func (b *bench) plainAt(id string, port int) (string, error) {
	url, token, err := b.endpoint(id, daemonPort)
	if err != nil {
		return "", err
	}
	if _, err := b.plainServer(id, url, token); err != nil { // it listens at 8080, too
		return "", err
	}
	start := fmt.Sprintf(`{"argv":["/tmp/plain","-serve",":%d"],"background":true}`, port)
	if err := b.send("POST", url+"/command", token, "application/json", strings.NewReader(start)); err != nil {
		return "", err
	}
	out, err := exec.Command("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "sandbox-"+id).Output()
	if err != nil {
		return "", err
	}
	address := "http://" + net.JoinHostPort(strings.TrimSpace(string(out)), strconv.Itoa(port))
	for range 500 {
		if err = b.send("GET", address+"/bytes/1", "", "", nil); err == nil {
			return address, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("the program in the sandbox never answered: %w", err)
}

// startNginx runs nginx as people do: a worker for each processor, kept connections to the backend, its own buffering, no access log. It
// takes path off the requests, as the server's proxy does. Long answers are buffered in memory only: on disk it would be slower.
func (b *bench) startNginx(backend, path string) (string, func(), error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	config := fmt.Sprintf(`daemon off; worker_processes auto; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; proxy_max_temp_file_size 0; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
upstream app { server %[2]s; keepalive 128; keepalive_requests 1000000000; }
server { listen %[3]s backlog=2048; location %[4]s/ { proxy_pass http://app/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0; } } }
`, b.dir, strings.TrimPrefix(backend, "http://"), address, path)
	file := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return "", nil, err
	}
	cmd := exec.Command("nginx", "-c", file)
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("nginx (Debian: nginx-light): %w", err)
	}
	stop := func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	for range 500 {
		if err = b.send("GET", "http://"+address+path+"/bytes/1", "", "", nil); err == nil {
			return "http://" + address, stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("nginx never answered: %w", err)
}

// proxyRates measures 1 KB: how many in a second on many connections, and what is added to one on a single connection.
func (b *bench) proxyRates(backend, nginx, path string) error {
	const kilobyte = "/bytes/1024"
	rates, alone := map[string][]float64{}, map[string][]float64{}
	ways := []struct{ name, base, path string }{{"nginx", nginx, path + kilobyte}, {"the server's proxy", b.base, path + kilobyte}, {"directly", backend, kilobyte}}
	for range 3 {
		for _, w := range ways {
			next := func(int) shot { return get(w.path) }
			_, rate, failed := hammer(b.ctx, w.base, proxyConnections, 4*time.Second, next)
			if failed > 0 {
				return fmt.Errorf("%s: %d requests failed", w.name, failed)
			}
			rates[w.name] = append(rates[w.name], rate)
			samples, _, _ := hammer(b.ctx, w.base, 1, time.Second, next)
			alone[w.name] = append(alone[w.name], samples...)
		}
	}
	base := 0.0
	for _, w := range ways {
		r := b.add(result{Section: "proxy", Name: fmt.Sprintf("1 KB, %d connections, %s", proxyConnections, w.name), Samples: rates[w.name], Unit: "requests/s"})
		if w.name == "nginx" {
			base = r.p(50)
		}
	}
	direct := result{Samples: alone["directly"]}.p(50)
	for _, w := range ways {
		r := result{Section: "proxy", Name: "1 KB, one connection, " + w.name, Samples: alone[w.name]}
		r.Note = fmt.Sprintf("%.2f ms more than directly", r.p(50)-direct)
		b.add(r)
	}
	got := result{Samples: rates["the server's proxy"]}.p(50)
	fmt.Fprintf(os.Stderr, "  the server's proxy: %.0f %% of nginx (target ≥ 60 %%); added p50 target ≤ 0.5 ms\n", 100*got/base)
	return nil
}

// proxyVolume measures one large answer, and the memory of the server meanwhile.
func (b *bench) proxyVolume(nginx, path string) error {
	large := fmt.Sprintf("/bytes/%d", largeBody)
	rates := map[string][]float64{}
	before := memoryOf(b.server.Process.Pid, "VmRSS")
	for range 3 {
		for name, url := range map[string]string{"nginx": nginx + path + large, "the server's proxy": b.base + path + large} {
			took, err := timed(func() error { return b.discard(url) })
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			rates[name] = append(rates[name], largeBody/1e6/(took/1000))
		}
	}
	base := b.add(result{Section: "proxy", Name: "1 GB, nginx", Samples: rates["nginx"], Unit: "MB/s"})
	got := result{Section: "proxy", Name: "1 GB, the server's proxy", Samples: rates["the server's proxy"], Unit: "MB/s"}
	got.Note = fmt.Sprintf("%.0f %% of nginx; target ≥ 80 %%", 100*got.p(50)/base.p(50))
	b.add(got)
	b.add(result{Section: "proxy", Name: "memory of the server afterwards (VmRSS)", Samples: []float64{memoryOf(b.server.Process.Pid, "VmRSS")}, Unit: "MB",
		Note: fmt.Sprintf("%.0f MB before; peak %.0f MB", before, memoryOf(b.server.Process.Pid, "VmHWM"))})
	return nil
}

// discard reads an answer through a large buffer.
func (b *bench) discard(url string) error {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, make([]byte, 1<<20))
	if err == nil && (n != largeBody || res.StatusCode != http.StatusOK) {
		return fmt.Errorf("%s, %d bytes", res.Status, n)
	}
	return err
}
