package renewintent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"opensandbox/libs/sandbox"
)

// Intent says that a sandbox was in use.
type Intent struct {
	ID         sandbox.ID
	ObservedAt time.Time
}

// MaxPayload bounds what is read as an intent, in bytes. Producers write the path of a request into it, which servers bound at 1 MiB with
// all headers.
const MaxPayload = 2 << 20

// naive is a time without a zone, which OpenSandbox 1.1.1 takes for UTC.
const naive = "2006-01-02T15:04:05"

// Parse reads the JSON form of OpenSandbox 1.1.1:
//
//	{"sandbox_id": "…", "observed_at": "2026-01-02T03:04:05.678Z", "port": 8080, "request_uri": "/…", "namespace": "…"}
//
// The first two fields are required; the others do not matter here, and may be anything. A blank id and a time that is not RFC 3339 are
// refused; a time without a zone is UTC.
func Parse(payload []byte) (Intent, error) {
	if len(payload) > MaxPayload {
		return Intent{}, errors.New("the payload is too long")
	}
	var p struct {
		ID         string `json:"sandbox_id"`
		ObservedAt string `json:"observed_at"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return Intent{}, fmt.Errorf("not an intent in JSON: %w", err)
	}
	id := strings.TrimSpace(p.ID)
	if id == "" {
		return Intent{}, errors.New("sandbox_id is missing")
	}
	at, err := parseTime(strings.TrimSpace(p.ObservedAt))
	if err != nil {
		return Intent{}, err
	}
	return Intent{ID: sandbox.ID(id), ObservedAt: at}, nil
}

func parseTime(s string) (time.Time, error) {
	// Both layouts take any number of digits behind the seconds.
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		at, err = time.Parse(naive, s)
	}
	if err != nil {
		return time.Time{}, errors.New("observed_at is not a time in the form of RFC 3339")
	}
	return at.UTC(), nil
}
