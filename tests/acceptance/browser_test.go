//go:build e2e

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"opensandbox/tests/process"
)

// browser is a Chromium (Debian packages chromium and chromium-driver), driven over WebDriver.
type browser struct {
	t       *testing.T
	session string // URL
}

// chromiumFlags keep Chromium from asking for anything by itself. Nothing but the loopback can be reached, not even by name.
var chromiumFlags = []string{
	"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
	"--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1400,1600",
}

// openBrowser starts a browser that ends with the test.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	port := process.FreePort(t)
	cmd := process.Command(nil, "chromedriver", fmt.Sprintf("--port=%d", port))
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the browser's driver (Debian package chromium-driver): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	base := fmt.Sprintf("http://127.0.0.1:%d", port)
	for deadline := time.Now().Add(patience); ; waitABit() {
		if a, err := request("GET", base+"/status", nil); err == nil && a.status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the browser's driver never answered")
		}
	}
	b := &browser{t: t}
	var opened struct {
		SessionID string `json:"sessionId"`
	}
	b.call("POST", base+"/session", m{"capabilities": m{"alwaysMatch": m{
		"browserName":        "chrome",
		"goog:chromeOptions": m{"args": append([]string{"--user-data-dir=" + t.TempDir()}, chromiumFlags...)},
		"goog:loggingPrefs":  m{"browser": "ALL", "performance": "ALL"},
	}}}, &opened)
	b.session = base + "/session/" + opened.SessionID
	t.Cleanup(func() { _, _ = request("DELETE", b.session, nil) })
	return b
}

// call sends a command of WebDriver and reads its value.
func (b *browser) call(method, url string, body, value any) {
	b.t.Helper()
	a, err := request(method, url, body)
	if err != nil || a.status != http.StatusOK {
		b.t.Fatalf("browser: %s: %v %v", url, a, err)
	}
	if err := json.Unmarshal(a.body, &struct {
		Value any `json:"value"`
	}{value}); err != nil {
		b.t.Fatalf("browser: %v: %v", a, err)
	}
}

// open loads a page.
func (b *browser) open(url string) {
	b.t.Helper()
	var none any
	b.call("POST", b.session+"/url", m{"url": url}, &none)
}

// text returns what the page shows.
func (b *browser) text() string {
	b.t.Helper()
	var s string
	b.call("POST", b.session+"/execute/sync", m{"script": "return document.body.innerText", "args": []any{}}, &s)
	return s
}

// shows waits until the page shows all the texts.
func (b *browser) shows(texts ...string) {
	b.t.Helper()
	var shown string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); waitABit() {
		shown = b.text()
		missing := false
		for _, t := range texts {
			missing = missing || !strings.Contains(shown, t)
		}
		if !missing {
			return
		}
	}
	b.t.Errorf("the page never shows all of %q; it shows:\n%s", texts, tail(shown, 3000))
}

// inside are the schemes of what is in a page or in the browser itself.
var inside = []string{"about", "blob", "chrome", "data"}

// quiet fails if the console has an error, or if anything was asked of others than base or not found there. It returns what was asked for.
func (b *browser) quiet(base string) []string {
	b.t.Helper()
	type entry struct{ Level, Message string }
	var console, performance []entry
	b.call("POST", b.session+"/se/log", m{"type": "browser"}, &console)
	b.call("POST", b.session+"/se/log", m{"type": "performance"}, &performance)
	for _, e := range console {
		if e.Level != "INFO" && e.Level != "DEBUG" {
			b.t.Errorf("console: %s %s", e.Level, e.Message)
		}
	}
	var asked []string
	ours := map[string]bool{} // by the id of the request; the browser's first page, which is not ours, may still have some in progress
	for _, e := range performance {
		var event struct {
			Message struct {
				Method string
				Params struct {
					RequestID string
					Request   struct{ URL string }
					Response  struct{ Status int }
					ErrorText string
				}
			}
		}
		if err := json.Unmarshal([]byte(e.Message), &event); err != nil {
			b.t.Fatal(err)
		}
		switch p := event.Message.Params; event.Message.Method {
		case "Network.requestWillBeSent":
			asked = append(asked, p.Request.URL)
			ours[p.RequestID] = true
			if scheme, _, _ := strings.Cut(p.Request.URL, ":"); !strings.HasPrefix(p.Request.URL, base+"/") && !slices.Contains(inside, scheme) {
				b.t.Errorf("the page asks for %s", p.Request.URL)
			}
		case "Network.loadingFailed":
			if ours[p.RequestID] {
				b.t.Errorf("loading failed: %s", e.Message)
			}
		case "Network.responseReceived":
			if p.Response.Status >= http.StatusBadRequest {
				b.t.Errorf("not loaded: %s", e.Message)
			}
		}
	}
	return asked
}
