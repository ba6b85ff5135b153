//go:build e2e

package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"opensandbox/libs/secrettest"
)

// answer is what came back for a request.
type answer struct {
	status int
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %.300s", a.status, a.body) }

// send makes one request; body is encoded as JSON unless it is nil.
func (p *platform) send(method, address string, header map[string]string, body any) (answer, error) {
	var reader io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(p.t.Context()), method, address, reader)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, raw}, err
}

// call asks the API.
func (p *platform) call(method, path string, body any, header ...string) (answer, error) {
	h := map[string]string{"OPEN-SANDBOX-API-KEY": p.key}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return p.send(method, p.api+"/v1"+path, h, body)
}

// want asks the API and ends the test unless the answer has the status; result may be nil.
func (p *platform) want(status int, method, path string, body, result any) {
	p.t.Helper()
	a, err := p.call(method, path, body)
	if err != nil || a.status != status {
		p.t.Fatalf("%s %s: %v, %v, want %d", method, path, a, err, status)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(a.body, result); err != nil {
		p.t.Fatalf("%s %s: %v: %s", method, path, err, a.body)
	}
}

func spec() map[string]any {
	return map[string]any{
		"image": map[string]any{"uri": image}, "entrypoint": []string{"sleep", "100000"}, "timeout": 3600,
		"resourceLimits": map[string]any{"cpu": "100m", "memory": "64Mi"},
	}
}

// box is a running sandbox.
type box struct {
	id, endpoint, token string
}

// host is where its node publishes ports.
func (b box) host() string { return strings.SplitN(b.endpoint, ":", 2)[0] }

func (p *platform) create() box {
	p.t.Helper()
	var made struct {
		ID     string                 `json:"id"`
		Status struct{ State string } `json:"status"`
	}
	p.want(http.StatusAccepted, http.MethodPost, "/sandboxes", spec(), &made)
	if made.Status.State != "Running" {
		p.t.Fatalf("the new sandbox %s is %s", made.ID, made.Status.State)
	}
	return p.endpoint(made.ID)
}

func (p *platform) endpoint(id string) box {
	p.t.Helper()
	var e struct {
		Endpoint string            `json:"endpoint"`
		Headers  map[string]string `json:"headers"`
	}
	p.want(http.StatusOK, http.MethodGet, "/sandboxes/"+id+"/endpoints/44772", nil, &e)
	token := e.Headers["X-EXECD-ACCESS-TOKEN"]
	if token == "" {
		p.t.Fatalf("no token for the daemon of %s", id)
	}
	secrettest.Note("the token of a daemon", token)
	return box{id: id, endpoint: e.Endpoint, token: token}
}

// runs runs a command at the base URL of a sandbox's daemon, and fails unless it prints a word.
func (p *platform) runs(b box, way, base string) {
	p.t.Helper()
	a, err := p.send(http.MethodPost, base+"/command", map[string]string{"X-EXECD-ACCESS-TOKEN": b.token}, map[string]any{"command": "echo he''llo"})
	if err != nil || a.status != http.StatusOK || !bytes.Contains(a.body, []byte("hello")) {
		p.t.Errorf("a command in %s on %s %s: %v, %v", b.id, b.host(), way, a, err)
	}
}

// query asks Prometheus and returns the value of each series by its labels.
func (p *platform) query(expr string) map[string]string {
	a, err := p.send(http.MethodGet, p.prometheus+"/api/v1/query?query="+url.QueryEscape(expr), nil, nil)
	if err != nil || a.status != http.StatusOK {
		return nil
	}
	var r struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if json.Unmarshal(a.body, &r) != nil {
		return nil
	}
	out := map[string]string{}
	for _, s := range r.Data.Result {
		out[s.Metric["job"]+" "+s.Metric["instance"]] = fmt.Sprint(s.Value[1])
	}
	return out
}
