package app_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/agentmetrics"
	"opensandbox/services/runtime-agent/internal/converge"
)

// The steps and the metrics each have their list of words: they must be the same.
func TestMetricsKnowTheWordsOfTheSteps(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := agentmetrics.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	stages, differences := converge.Words()
	for _, s := range stages {
		m.Stage(s, time.Second)
	}
	for _, d := range differences {
		m.Difference(d)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				if (l.GetName() == "stage" || l.GetName() == "kind") && (l.GetValue() == agentmetrics.Other) != (x.GetHistogram().GetSampleCount() == 0 && x.GetCounter().GetValue() == 0) {
					t.Errorf("%s: %v", f.GetName(), x)
				}
			}
		}
	}
}
