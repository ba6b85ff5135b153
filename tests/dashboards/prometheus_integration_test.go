//go:build integration

// Package dashboards runs what deployments/ ask of Prometheus, queries of the dashboard and alert rules, against a real one that scrapes the
// real metrics.
package dashboards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/agentmetrics"
	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/kitx"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/schedulermetrics"
	"opensandbox/libs/storemetrics"
	"opensandbox/libs/telemetry"
	router "opensandbox/services/ingress-router/app"
)

const (
	alertsFile    = "../../deployments/prometheus/alerts.yml"
	dashboardFile = "../../deployments/grafana/opensandbox.json"
)

// counts is a store that can count.
type counts map[storemetrics.NodeState]int

func (c counts) Counts(context.Context) (map[storemetrics.NodeState]int, error) { return c, nil }

// platform registers every metric of the platform on one registry, as the single binary does, and returns a function that does a bit
// of everything.
func platform(t *testing.T, reg *prometheus.Registry) (work func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := storemetrics.New(memstore.New(), reg, nil)
	must(err)
	_, err = store.Register(t.Context(), node.Registration{Name: "node-a", EngineID: "e", PortMin: 1, PortMax: 2})
	must(err)
	_, err = storemetrics.NewInventory(counts{{Node: "node-a", State: sandbox.StateRunning}: 3}, store, reg)
	must(err)
	scheduler, err := schedulermetrics.New(reg)
	must(err)
	agent, err := agentmetrics.New(reg)
	must(err)
	kit, err := kitx.New(slog.New(slog.DiscardHandler), reg)
	must(err)
	kitx.Route(kit, "GET /sandboxes/{id}", kitx.Op("GetSandbox", 200), func(_ context.Context, r *http.Request) (string, error) { return r.PathValue("id"), nil },
		func(context.Context, string) (kitx.None, error) { return kitx.None{}, nil })
	engine := agent.Engine(fakeexec.New("fake", time.Now), nil)
	ask := routed(t, reg)
	return func() {
		ctx := context.Background()
		ask()
		_, _ = store.Get(ctx, "none")
		kit.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/sandboxes/x", nil))
		kit.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", nil))
		scheduler.Expired(1, 3*time.Millisecond)
		scheduler.ClockLag(0)
		scheduler.Placement(schedulermetrics.Placed)
		scheduler.RenewIntent(schedulermetrics.IntentRenewed)
		scheduler.Held(0)
		scheduler.Queue(1, time.Now())
		agent.Stage(agentmetrics.StageCreate, 100*time.Millisecond)
		agent.Waiting(agentmetrics.TurnMake)()
		agent.Containers(map[executor.Phase]int{executor.Running: 3})
		agent.Queue(1, time.Now())
		_, _ = engine.Inspect(ctx, "none")
		_, _ = engine.List(ctx)
	}
}

// routed runs a router in front of one application, and returns a function that asks that through it.
func routed(t *testing.T, reg *prometheus.Registry) (ask func()) {
	t.Helper()
	application := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(application.Close)
	store := memstore.New()
	records := one{Store: store, address: application.Listener.Addr().(*net.TCPAddr)}
	r, err := router.New(t.Context(), router.Config{Address: "127.0.0.1:0", KeepAlive: time.Second, Grace: time.Second},
		router.Deps{Queries: records, Hints: store, Nodes: records, Registry: reg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var g lifecycle.Group
	for _, p := range r.Parts() {
		g.Add(p.Name, p.Run)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	client := &http.Client{Timeout: 5 * time.Second}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the router ended with %v", err)
		}
	})
	return func() {
		resp, err := client.Get("http://" + r.Addr().String() + "/box/80/")
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the router answers %d", resp.StatusCode)
		}
	}
}

// one is a store with one running sandbox, whose port 80 is at address.
type one struct {
	*memstore.Store
	address *net.TCPAddr
}

func (o one) Get(_ context.Context, id sandbox.ID) (sandbox.Record, error) {
	ports := map[int]int{80: o.address.Port, 44772: o.address.Port}
	return sandbox.Record{
		ID: id, Placement: sandbox.Placement{Node: "node-a", Epoch: 1},
		Observed: sandbox.Observed{State: sandbox.StateRunning, Started: true, Epoch: 1, Addresses: sandbox.Addresses{Ports: ports}},
	}, nil
}

func (o one) Nodes(context.Context) ([]node.Node, error) {
	return []node.Node{{Name: "node-a", Host: o.address.IP.String(), LeaseUntil: time.Now().Add(time.Hour)}}, nil
}

type query struct{ panel, expr string }

// variables are what Grafana fills in.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$job", "opensandbox.*")

// panels returns the queries of the dashboard, as Grafana would send them.
func panels(t *testing.T) []query {
	t.Helper()
	raw, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	var out []query
	for _, p := range d.Panels {
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			out = append(out, query{p.Title, variables.Replace(q.Expr)})
		}
	}
	return out
}

// run starts a Prometheus that scrapes target, and returns its base URL. It ends with the test.
func run(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	alerts, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n- job_name: opensandbox\n  static_configs: [{targets: [%q]}]\n", alerts, u.Host)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("this test needs Prometheus (Debian package prometheus): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("log of Prometheus:\n%s", text)
		}
	})
	return "http://" + address
}

// api asks Prometheus.
func api(client *http.Client, address string, result any) error {
	resp, err := client.Get(address)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var envelope struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return fmt.Errorf("%s: %w", body, err)
	}
	if envelope.Status != "success" {
		return refused{envelope.Error}
	}
	return json.Unmarshal(envelope.Data, result)
}

// refused is Prometheus's verdict on a query.
type refused struct{ why string }

func (r refused) Error() string { return r.why }

// TestPrometheusUnderstandsDashboardAndAlerts lets a real Prometheus scrape all metrics of the platform and asks it what dashboard and
// alerts ask.
func TestPrometheusUnderstandsDashboardAndAlerts(t *testing.T) {
	reg := telemetry.Registry()
	work := platform(t, reg)
	work()
	admin := telemetry.Admin(reg, func() error { return nil })
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		work() // something happens between any two scrapes
		admin.ServeHTTP(w, r)
	}))
	t.Cleanup(target.Close)
	base := run(t, target.URL)
	client := &http.Client{Timeout: 5 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	deadline := time.Now().Add(time.Minute)
	ask := func(q query) error {
		var result struct{ Result []json.RawMessage }
		if err := api(client, base+"/api/v1/query?query="+url.QueryEscape(q.expr), &result); err != nil {
			return err
		}
		if len(result.Result) == 0 {
			return errors.New("no series")
		}
		return nil
	}
	queries := panels(t)
	for _, q := range queries {
		err := ask(q)
		for final := (refused{}); err != nil && !errors.As(err, &final) && time.Now().Before(deadline); err = ask(q) {
			time.Sleep(250 * time.Millisecond) // Prometheus starts, or has scraped less than twice
		}
		if err != nil {
			t.Errorf("panel %q: %v\n%s", q.panel, err, q.expr)
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError string }
		}
	}
	evaluated := func() (n int, all bool) {
		rules.Groups = nil
		if err := api(client, base+"/api/v1/rules", &rules); err != nil {
			return 0, false
		}
		all = true
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				n++
				all = all && r.Health != "unknown"
			}
		}
		return n, all && n > 0
	}
	n, all := evaluated()
	for ; !all && time.Now().Before(deadline); n, all = evaluated() {
		time.Sleep(250 * time.Millisecond)
	}
	if !all {
		t.Fatalf("%d rules were loaded and not all were evaluated", n)
	}
	asked := queries
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("alert %s: %s %s", r.Name, r.Health, r.LastError)
			}
			asked = append(asked, query{r.Name, r.Query})
		}
	}
	namesExist(t, reg, asked)
}

var metricName = regexp.MustCompile(`\b(opensandbox_\w+?)(_bucket|_count|_sum)?\b`)

// namesExist checks both ways: nothing asks for a metric that nobody has, and no metric of ours is shown nowhere.
func namesExist(t *testing.T, reg prometheus.Gatherer, asked []query) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "opensandbox_") {
			have = append(have, f.GetName())
		}
	}
	shown := map[string]bool{}
	for _, q := range asked {
		for _, m := range metricName.FindAllStringSubmatch(q.expr, -1) {
			shown[m[1]] = true
			if !slices.Contains(have, m[1]) {
				t.Errorf("%s asks for %s, which is not a metric", q.panel, m[1])
			}
		}
	}
	for _, name := range have {
		if !shown[name] {
			t.Errorf("%s is shown nowhere", name)
		}
	}
}

func TestPromtoolAcceptsTheAlerts(t *testing.T) {
	out, err := exec.Command("promtool", "check", "rules", alertsFile).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool check rules (Debian package prometheus): %v\n%s", err, out)
	}
}
