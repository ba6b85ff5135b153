//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// full makes the abuse as large as the requirements name it; without it the same happens on a scale that takes seconds.
var full = flag.Bool("full", false, "abuse with 5 GB of output and an upload of 10 GB")

func scale(small, large int64) int64 {
	if *full {
		return large
	}
	return small
}

// outputFiles is what one background command leaves for a day: its output, and the directory for it.
const outputFiles = 2

// spillDirectory stays when output has once waited for a slow reader.
const spillDirectory = 1

// remains are what a daemon could leak.
type remains struct{ descriptors, processes, files int }

// count looks at the daemon from beside it.
func (c *container) count() remains {
	c.t.Helper()
	// The words are those of the busybox that is at this path in the image.
	script := "b=/bin/busybox; $b ls /proc/1/fd | $b wc -l; $b ls -d /proc/[0-9]* | $b wc -l; $b find /tmp /run/opensandbox | $b wc -l"
	out, err := exec.Command("docker", "exec", c.name, "/bin/busybox", "sh", "-c", script).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) != 3 {
		return remains{} // Under abuse the engine itself may find no process to look with.
	}
	var n [3]int
	for i, f := range fields {
		n[i], _ = strconv.Atoi(f)
	}
	return remains{n[0], n[1], n[2]}
}

// abused is a daemon that is watched while it is abused.
type abused struct {
	*container
	before remains
	pinger *pinger
}

// abuse starts a daemon and asks it for /ping all the time. The daemon has no token: with one it hides its descriptors.
func abuse(t *testing.T, options ...string) *abused {
	t.Helper()
	c := open(t, options...)
	c.sh("true") // What is made on first use exists from here on.
	a := &abused{container: c, before: c.count()}
	if a.before.descriptors == 0 {
		t.Fatal("the daemon cannot be looked at")
	}
	a.pinger = startPinger(t, c.url)
	return a
}

// pinged reports how /ping did.
func (a *abused) pinged() {
	a.t.Helper()
	took := a.pinger.stop(a.t)
	if len(took) == 0 {
		a.t.Error("/ping never answered")
	} else {
		a.t.Logf("/ping under abuse: %d times, p50 %s, p99 %s, max %s", len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
}

// over reports how /ping did, and waits until nothing is left of the abuse.
func (a *abused) over() {
	a.t.Helper()
	a.pinged()
	var now remains
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now = a.count()
		if now.descriptors > 0 && now.descriptors <= a.before.descriptors && now.processes <= a.before.processes && now.files <= a.before.files {
			return
		}
	}
	a.t.Errorf("left over: %+v, at first %+v", now, a.before)
}

// post begins a request.
func (c *container) post(path, kind string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequest("POST", c.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	return client.Do(req)
}

func (c *container) command(script string, more string) (*http.Response, error) {
	text, _ := json.Marshal(script)
	return c.post("/command", "application/json", strings.NewReader(`{"command":`+string(text)+more+`}`))
}

// TestAbuseMuchOutput: every line of a flood arrives.
func TestAbuseMuchOutput(t *testing.T) {
	a := abuse(t)
	size := scale(4<<20, 5<<30)
	res, err := a.command("busybox yes | busybox head -c "+strconv.FormatInt(size, 10), "")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines, last, err := countLines(res.Body, `"text":"y\n"`)
	if err != nil || lines != size/2 || !strings.Contains(last, "execution_complete") {
		t.Errorf("got %d lines, want %d; the last event is %s; %v", lines, size/2, last, err)
	}
	a.before.files += spillDirectory // The reader may be slow at times.
	a.over()
}

// countLines counts the events of an answer with the mark, and returns its last event. It looks at much at once, not at each event: the reader
// of billions of them should take less of the processors than what writes them.
func countLines(r io.Reader, mark string) (lines int64, last string, err error) {
	buf := make([]byte, 0, 256<<10)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		whole := bytes.LastIndex(buf, []byte("\n\n")) + 2
		if whole >= 2 {
			events := buf[:whole]
			lines += int64(bytes.Count(events, []byte(mark)))
			last = string(events[bytes.LastIndex(events[:whole-2], []byte("\n\n"))+1:])
			buf = buf[:copy(buf, buf[whole:])]
		}
		if err == io.EOF {
			return lines, strings.TrimSpace(last), nil
		}
		if err != nil {
			return lines, last, err
		}
	}
}

// TestAbuseForkBomb: the bomb fills the limit of processes, /ping goes on, and the time-out ends all of it.
func TestAbuseForkBomb(t *testing.T) {
	a := abuse(t, "--pids-limit", "100")
	res, err := a.command("bomb() { bomb | bomb & }; bomb; sleep 1000", `,"background":true,"timeout":3000`)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	for range 20 { // Commands may fail meanwhile, but they must answer.
		res, err := a.command("true", "")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || !strings.Contains(string(b), `"execution_complete"`) && !strings.Contains(string(b), `"error"`) {
			t.Errorf("a command beside the bomb: %d %s", res.StatusCode, b)
		}
		time.Sleep(100 * time.Millisecond)
	}
	a.before.files += outputFiles
	a.over()
	if got := a.sh("echo well"); got != "well\n" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestAbuseManyCommands(t *testing.T) {
	a := abuse(t)
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			res, err := a.command("echo $(("+strconv.Itoa(i)+"*3))", "")
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf(`"text":"%d\n"`, i*3); err != nil || !strings.Contains(string(b), want) || !strings.Contains(string(b), "execution_complete") {
				t.Errorf("command %d: %v %s", i, err, b)
			}
		})
	}
	all.Wait()
	a.over()
}

func TestAbuseSIGTERMIgnored(t *testing.T) {
	a := abuse(t)
	res, err := a.command("trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & while :; do sleep 0.1; done", `,"background":true`)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	var first struct{ Text string }
	frame, _, _ := bytes.Cut(b, []byte("\n"))
	if err := json.Unmarshal(frame, &first); err != nil {
		t.Fatal(err)
	}
	if status, body := a.request("DELETE", "/command?id="+first.Text, "", nil); status != http.StatusOK {
		t.Errorf("interrupt: %d %s", status, body)
	}
	if _, body := a.request("GET", "/command/status/"+first.Text, "", nil); !strings.Contains(body, `"running":false`) {
		t.Errorf("after the interrupt: %s", body)
	}
	a.before.files += outputFiles
	a.over()
}

// TestAbuseNames: a name is bytes. Those that are not text can be addressed by their bytes.
func TestAbuseNames(t *testing.T) {
	a := abuse(t)
	a.sh("busybox mkdir /tmp/n; printf odd >\"$(printf '/tmp/n/line\\nbreak\\377')\"")
	path := "?path=" + url.QueryEscape("/tmp/n/line\nbreak\xff")
	for _, route := range []string{"/directories/list?path=/tmp/n", "/files/search?path=/tmp/n&pattern=line*", "/files/info" + path} {
		status, body := a.request("GET", route, "", nil)
		if status != http.StatusOK || !json.Valid([]byte(body)) || !strings.Contains(body, `line\nbreak`) {
			t.Errorf("%s: %d %s", route, status, body)
		}
	}
	if status, body := a.request("GET", "/files/download"+path, "", nil); status != http.StatusOK || body != "odd" {
		t.Errorf("download: %d %s", status, body)
	}
	if status, body := a.request("DELETE", "/files"+path, "", nil); status != http.StatusOK {
		t.Errorf("delete: %d %s", status, body)
	}
	if got := a.sh("ls /tmp/n; busybox rmdir /tmp/n"); got != "" {
		t.Errorf("still there: %q", got)
	}
	a.over()
}

func TestAbuseSymlinkLoops(t *testing.T) {
	a := abuse(t)
	a.sh("busybox mkdir -p /tmp/l/d; busybox ln -s b /tmp/l/a; busybox ln -s a /tmp/l/b; busybox ln -s .. /tmp/l/d/up")
	for route, want := range map[string]int{
		"/files/info?path=/tmp/l/a": 200, "/files/download?path=/tmp/l/a": 500, "/files/download?path=/tmp/l/d/up/d/up/d/up/a": 500,
		"/files/search?path=/tmp/l": 200, "/directories/list?path=/tmp/l&depth=1000": 200,
	} {
		if status, body := a.request("GET", route, "", nil); status != want || len(body) > 2000 {
			t.Errorf("%s: got %d %s, want %d", route, status, body, want)
		}
	}
	if status := a.upload(t, "/tmp/l/a", strings.NewReader("x")); status != http.StatusInternalServerError {
		t.Errorf("upload into a loop: %d", status)
	}
	if status, body := a.request("DELETE", "/directories?path=/tmp/l", "", nil); status != http.StatusOK {
		t.Errorf("delete: %d %s", status, body)
	}
	a.over()
}

// upload sends one file and returns the status, 0 when the connection broke.
func (c *container) upload(t *testing.T, path string, content io.Reader) int {
	t.Helper()
	head := "--b\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m\"\r\n\r\n{\"path\":\"" + path + "\"}\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"
	res, err := c.post("/files/upload", "multipart/form-data; boundary=b", io.MultiReader(strings.NewReader(head), content, strings.NewReader("\r\n--b--\r\n")))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// zeros are n bytes that cost nothing to make.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

// Read implements io.Reader.
func (zero) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestAbuseFullDisk: what was there stays, nothing half is left, and commands go on.
func TestAbuseFullDisk(t *testing.T) {
	a := abuse(t, "--tmpfs", "/small:size=1m", "-e", "TMPDIR=/small")
	if status := a.upload(t, "/small/file", strings.NewReader("old")); status != http.StatusOK {
		t.Fatalf("a small file: %d", status)
	}
	for _, path := range []string{"/small/file", "/small/new"} {
		if status := a.upload(t, path, zeros(8<<20)); status != http.StatusInternalServerError {
			t.Errorf("%s: got %d, want 500", path, status)
		}
	}
	if got := a.sh("ls -a /small; cat /small/file"); got != ".\n..\nfile\nold" {
		t.Errorf("on the full disk: %q", got)
	}
	res, err := a.command("busybox yes | busybox head -c 4000000; echo $? >/tmp/status", `,"background":true`)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	for deadline := time.Now().Add(30 * time.Second); a.sh("cat /tmp/status 2>/dev/null") == ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a command that fills the disk does not end")
		}
	}
	if got := a.sh("busybox rm -r /small/* /tmp/status; echo well"); got != "well\n" {
		t.Errorf("afterwards: %q", got)
	}
	a.over()
}

// cut is a body that breaks off.
type cut struct{ io.Reader }

// Read implements io.Reader.
func (c cut) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// TestAbuseCutUpload: an upload that breaks off in the middle changes nothing.
func TestAbuseCutUpload(t *testing.T) {
	a := abuse(t)
	if status := a.upload(t, "/tmp/file", strings.NewReader("old")); status != http.StatusOK {
		t.Fatalf("a small file: %d", status)
	}
	a.before.files++
	for _, path := range []string{"/tmp/file", "/tmp/new"} {
		if status := a.upload(t, path, cut{zeros(scale(64<<20, 5<<30))}); status != 0 {
			t.Errorf("%s: the cut upload was answered with %d", path, status)
		}
	}
	a.over()
	if got := a.sh("ls -a /tmp; cat /tmp/file"); got != ".\n..\nfile\nold" {
		t.Errorf("afterwards: %q", got)
	}
}
