package converge_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/installation"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
	"opensandbox/services/runtime-agent/internal/converge"
)

func key(t *testing.T, secret string) installation.Installation {
	t.Helper()
	i, err := installation.Shared("test", secret)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// privateSandbox inserts a sandbox of a private image with credentials that were sealed by one installation, and lets an agent of another, or the
// same, make it. log gets all that the agent logs.
func privateSandbox(t *testing.T, c sandbox.Credentials, by, agent installation.Installation, log *bytes.Buffer) *rig {
	t.Helper()
	secrettest.Note("a password of a registry", c.Password)
	r := emptyRig(t)
	clear, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := by.Seal(id, clear)
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40050, TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	r.conv = converge.New(converge.Config{
		Node: "n", Session: n.Session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second, PortMin: 40000, PortMax: 40050,
		Token: agent.Token, Unseal: agent.Unseal, Log: slog.New(slog.NewTextHandler(log, nil)),
	}, converge.Deps{Store: r.store, Executor: r.engine})
	spec := sandbox.Spec{Image: fakeexec.PrivateImage, Entrypoint: []string{"run"}, Private: true}
	if _, err := r.store.Insert(t.Context(), sandbox.New{ID: id, Spec: spec, Secret: sealed}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Place(t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCredentialsReachTheRegistry(t *testing.T) {
	t.Parallel()
	one, other := key(t, secrettest.New("the shared secret")), key(t, secrettest.New("another shared secret"))
	wrong := sandbox.Credentials{Username: "robot", Password: secrettest.New("a wrong password")}
	for name, c := range map[string]struct {
		credentials sandbox.Credentials
		agent       installation.Installation
		state       sandbox.State
		reason      string
	}{
		"right":                   {fakeexec.Credentials(), one, sandbox.StateRunning, sandbox.ReasonRunning},
		"wrong":                   {wrong, one, sandbox.StateFailed, sandbox.ReasonImageUnavailable},
		"of another installation": {wrong, other, sandbox.StateFailed, sandbox.ReasonCreateError},
		"an agent without a key":  {wrong, key(t, ""), sandbox.StateFailed, sandbox.ReasonCreateError},
	} {
		var log bytes.Buffer
		r := privateSandbox(t, c.credentials, one, c.agent, &log)
		rec := r.settle()
		if rec.Observed.State != c.state || rec.Observed.Reason != c.reason {
			t.Errorf("%s: %+v", name, rec.Observed)
		}
		secrettest.Absent(t, name, log.String()+rec.Observed.Message)
		if s, err := r.store.Secret(t.Context(), id); err != nil || s != nil {
			t.Errorf("%s: the secret is kept, %v", name, err)
		}
	}
}

func TestCredentialsThatAreGone(t *testing.T) {
	t.Parallel()
	r := emptyRig(t)
	r.insertSpec(id, sandbox.Spec{Image: "image", Entrypoint: []string{"run"}, Private: true})
	if rec := r.settle(); rec.Observed.State != sandbox.StateFailed || rec.Observed.Reason != sandbox.ReasonCreateError {
		t.Errorf("%+v", rec.Observed)
	}
}

// noSecrets is a store that reads records, and no secrets.
type noSecrets struct{ converge.Store }

func (noSecrets) Secret(context.Context, sandbox.ID) ([]byte, error) {
	return nil, context.DeadlineExceeded
}

// TestSecretIsTriedAgain: a store that is away for a moment fails no create.
func TestSecretIsTriedAgain(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	one := key(t, secrettest.New("the shared secret"))
	r := privateSandbox(t, fakeexec.Credentials(), one, one, &log)
	away := converge.New(converge.Config{Node: "n", Session: 1, Token: one.Token, Unseal: one.Unseal, Log: slog.New(slog.DiscardHandler)},
		converge.Deps{Store: noSecrets{r.store}, Executor: r.engine})
	if _, err := away.Step(t.Context(), r.now, id); err == nil {
		t.Error("a store that cannot be read went unnoticed")
	}
	if rec := r.settle(); rec.Observed.State != sandbox.StateRunning {
		t.Errorf("afterwards: %+v", rec.Observed)
	}
}
