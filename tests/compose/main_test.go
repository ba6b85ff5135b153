//go:build e2e

// Package compose starts the platform of docker-compose.yml as an operator would, with a second engine, Prometheus and a stand-in for a
// trace collector, and looks at it from outside.
package compose

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
