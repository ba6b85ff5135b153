//go:build integration

package dashboards

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// series are what Prometheus has, a value a minute, in promtool's notation: by the name of the metric with its labels.
type series map[string]string

// alertCase is what a rule must fire for, and what it must be silent about although it is near to that.
type alertCase struct{ fires, silent series }

// minutes is how long what a case describes goes on: longer than each rule looks back and waits.
const minutes = 30

const (
	late        = "opensandbox_scheduler_deadline_lateness_seconds_bucket"
	placements  = "opensandbox_scheduler_placements_total"
	requests    = "opensandbox_http_request_duration_seconds_count"
	forwarded   = "opensandbox_router_requests_total"
	resolved    = "opensandbox_router_resolutions_total"
	stored      = "opensandbox_store_operation_duration_seconds_count"
	storedIn    = "opensandbox_store_operation_duration_seconds_bucket"
	differences = "opensandbox_agent_comparison_differences_total"
	engine      = "opensandbox_agent_engine_call_duration_seconds_count"
)

// alertCases has a case for every rule.
func alertCases() map[string]alertCase {
	return map[string]alertCase{
		"OpenSandboxDeadlinesLate": {
			series{late + `{le="5"}`: "0+98x30", late + `{le="10"}`: "0+100x30", late + `{le="+Inf"}`: "0+100x30"},
			series{late + `{le="5"}`: "0+995x30", late + `{le="10"}`: "0+1000x30", late + `{le="+Inf"}`: "0+1000x30"},
		},
		"OpenSandboxClockJumped": {
			series{`opensandbox_scheduler_clock_lag_seconds{instance="a"}`: "2x30"},
			series{`opensandbox_scheduler_clock_lag_seconds{instance="a"}`: "0.5x10 2 0.5x20"}, // for a moment
		},
		"OpenSandboxNoScheduler": {
			series{`opensandbox_scheduler_clock_lag_seconds{instance="a"}`: "0x5 _x30"},
			series{`opensandbox_scheduler_clock_lag_seconds{instance="a"}`: "0x5 _x30", `opensandbox_scheduler_clock_lag_seconds{instance="b"}`: "0x30"},
		},
		"OpenSandboxRepairs": {
			series{`opensandbox_scheduler_repairs_total{kind="node_lost"}`: "0x20 1x30"},
			series{`opensandbox_scheduler_repairs_total{kind="node_lost"}`: "7x30"}, // long ago
		},
		"OpenSandboxPlacementStuck": {
			series{`opensandbox_scheduler_queue_oldest_age_seconds{instance="a"}`: "0x30", `opensandbox_scheduler_queue_oldest_age_seconds{instance="b"}`: "90x30"},
			series{`opensandbox_scheduler_queue_oldest_age_seconds{instance="a"}`: "50x30"},
		},
		"OpenSandboxPlacementsFail": {
			series{placements + `{outcome="failed"}`: "0+10x30", placements + `{outcome="placed"}`: "0+90x30"},
			series{placements + `{outcome="failed"}`: "0+4x30", placements + `{outcome="placed"}`: "0+96x30", placements + `{outcome="waits"}`: "0+900x30"},
		},
		"OpenSandboxRequestsFail": {
			series{requests + `{route="/v1/sandboxes/{id}",method="GET",status="500"}`: "0+10x30", requests + `{route="/v1/sandboxes/{id}",method="GET",status="200"}`: "0+90x30"},
			series{ // creates that find no room are no fault of the API
				requests + `{route="/v1/sandboxes/{id}",method="GET",status="500"}`: "0+2x30", requests + `{route="/v1/sandboxes/{id}",method="GET",status="200"}`: "0+98x30",
				requests + `{route="/v1/sandboxes",method="POST",status="503"}`: "0+50x30", requests + `{route="/sandboxes",method="POST",status="503"}`: "0+50x30",
			},
		},
		"OpenSandboxSandboxesNotReached": {
			series{ // one router of two
				forwarded + `{instance="a",outcome="connection_failed"}`: "0+10x30", forwarded + `{instance="a",outcome="proxied"}`: "0+90x30",
				forwarded + `{instance="b",outcome="proxied"}`: "0+1000x30",
			},
			series{forwarded + `{instance="a",outcome="connection_failed"}`: "0+4x30", forwarded + `{instance="a",outcome="proxied"}`: "0+96x30"},
		},
		"OpenSandboxRouterWithoutStore": {
			series{resolved + `{instance="a",source="stale"}`: "0+1x30", resolved + `{instance="a",source="store"}`: "0+90x30"},
			series{resolved + `{instance="a",source="stale"}`: "7x30", resolved + `{instance="a",source="store"}`: "0+90x30"},
		},
		"OpenSandboxStoreUnavailable": {
			series{stored + `{outcome="unavailable"}`: "0+3x30", stored + `{outcome="ok"}`: "0+97x30"},
			series{stored + `{outcome="unavailable"}`: "0+1x30", stored + `{outcome="ok"}`: "0+99x30", stored + `{outcome="stale"}`: "0+100x30"},
		},
		"OpenSandboxStoreSlow": {
			series{storedIn + `{le="0.5"}`: "0+98x30", storedIn + `{le="1"}`: "0+100x30", storedIn + `{le="+Inf"}`: "0+100x30"},
			series{storedIn + `{le="0.5"}`: "0+995x30", storedIn + `{le="1"}`: "0+1000x30", storedIn + `{le="+Inf"}`: "0+1000x30"},
		},
		"OpenSandboxInventoryUnread": {
			series{`opensandbox_inventory_read_failures_total{instance="a"}`: "0+1x30"},
			series{`opensandbox_inventory_read_failures_total{instance="a"}`: "0x5 1x30"}, // once
		},
		"OpenSandboxNodeUnreachable": {
			series{`opensandbox_node_lease_age_seconds{node="a"}`: "60x30", `opensandbox_node_draining{node="a"}`: "0x30"},
			series{
				`opensandbox_node_lease_age_seconds{node="a"}`: "20x30", `opensandbox_node_draining{node="a"}`: "0x30",
				`opensandbox_node_lease_age_seconds{node="b"}`: "60x30", `opensandbox_node_draining{node="b"}`: "1x30", // on purpose
			},
		},
		"OpenSandboxLostNodesHeld": {
			series{`opensandbox_scheduler_lost_nodes_held{instance="a"}`: "0x30", `opensandbox_scheduler_lost_nodes_held{instance="b"}`: "2x30"},
			series{`opensandbox_scheduler_lost_nodes_held{instance="a"}`: "0x30"},
		},
		"OpenSandboxEngineUnavailable": {
			series{engine + `{instance="a",outcome="unavailable"}`: "0+1x30", engine + `{instance="a",outcome="ok"}`: "0+99x30"},
			series{engine + `{instance="a",outcome="unavailable"}`: "7x30", engine + `{instance="a",outcome="ok"}`: "0+99x30", engine + `{instance="a",outcome="notfound"}`: "0+9x30"},
		},
		"OpenSandboxAgentStuck": {
			series{`opensandbox_agent_queue_oldest_age_seconds{instance="a"}`: "400x30"},
			series{`opensandbox_agent_queue_oldest_age_seconds{instance="a"}`: "200x30"},
		},
		"OpenSandboxEngineOverloaded": {
			series{`opensandbox_agent_gate_waiting{instance="a",turn="make"}`: "30x30", `opensandbox_agent_gate_waiting{instance="a",turn="remove"}`: "30x30"},
			series{`opensandbox_agent_gate_waiting{instance="a",turn="make"}`: "30x30", `opensandbox_agent_gate_waiting{instance="b",turn="make"}`: "30x30"},
		},
		"OpenSandboxRecordsUnread": {
			series{differences + `{instance="a",kind="unread"}`: "0+1x30"},
			series{differences + `{instance="a",kind="unread"}`: "0x5 1x30", differences + `{instance="a",kind="behind"}`: "0+1x30"}, // for a moment
		},
		"OpenSandboxGarbage": {
			series{`opensandbox_agent_garbage_removed_total{instance="a"}`: "0x10 1x30"},
			series{`opensandbox_agent_garbage_removed_total{instance="a"}`: "7x30"}, // long ago
		},
	}
}

var ruleText = regexp.MustCompile(`(?m)^ *- alert: (\w+)\n(?: *#.*\n)* *expr: (.*)$`)

// rules returns the expressions of the alert rules by their names.
func rules(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range ruleText.FindAllStringSubmatch(string(text), -1) {
		out[m[1]] = m[2]
	}
	if n := strings.Count(string(text), "alert:"); len(out) != n || n == 0 {
		t.Fatalf("%d of %d rules were found in the file", len(out), n)
	}
	return out
}

// promtest is a test of promtool.
type promtest struct {
	Name     string       `json:"name"`
	Interval string       `json:"interval"`
	Input    []promseries `json:"input_series"`
	Ask      []promquery  `json:"promql_expr_test"`
}

type promseries struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

type promquery struct {
	Expr string       `json:"expr"`
	At   string       `json:"eval_time"`
	Want []promsample `json:"exp_samples"`
}

type promsample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

// check is a test that an alert fires in the end, or that it is silent all the time.
func check(alert string, in series, fires bool) promtest {
	p := promtest{Name: fmt.Sprintf("%s fires: %t", alert, fires), Interval: "1m"}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		p.Input = append(p.Input, promseries{name, in[name]})
	}
	firing := fmt.Sprintf(`count(ALERTS{alertname=%q,alertstate="firing"})`, alert)
	if fires {
		p.Ask = []promquery{{firing, fmt.Sprintf("%dm", minutes), []promsample{{"{}", 1}}}}
		return p
	}
	for m := range minutes + 1 {
		p.Ask = append(p.Ask, promquery{Expr: firing, At: fmt.Sprintf("%dm", m)})
	}
	return p
}

// TestEveryAlertFires: each rule fires for what it is about, once, and is silent about what only looks like that.
func TestEveryAlertFires(t *testing.T) {
	have, cases := rules(t), alertCases()
	var tests []promtest
	for _, alert := range slices.Sorted(maps.Keys(have)) {
		c, ok := cases[alert]
		if !ok {
			t.Errorf("rule %s has no case", alert)
			continue
		}
		tests = append(tests, check(alert, c.fires, true), check(alert, c.silent, false))
	}
	for alert, c := range cases {
		expr, ok := have[alert]
		if !ok {
			t.Errorf("case %s is about no rule", alert)
		}
		for _, in := range []series{c.fires, c.silent} {
			if len(in) == 0 {
				t.Errorf("a case of %s has no series", alert)
			}
			for name := range in {
				if metric, _, _ := strings.Cut(name, "{"); !strings.Contains(expr, metric) {
					t.Errorf("case %s has series of %s, which its rule does not ask for", alert, metric)
				}
			}
		}
	}
	alerts, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	// JSON is YAML.
	text, err := json.Marshal(map[string]any{"rule_files": []string{alerts}, "evaluation_interval": "1m", "tests": tests})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alerts.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool test rules (Debian package prometheus): %v\n%s", err, out)
	}
}
