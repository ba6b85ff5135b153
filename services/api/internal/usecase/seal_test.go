package usecase_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/installation"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
	"opensandbox/services/api/internal/usecase"
)

func vault(t *testing.T) installation.Installation {
	t.Helper()
	i, err := installation.Shared("test", secrettest.New("the shared secret"))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// newVaultWorld is a world whose use cases can keep credentials.
func newVaultWorld(t *testing.T, v usecase.Vault) *world {
	t.Helper()
	w := newWorld(t, nil)
	w.uses = usecase.New(usecase.Config{CreateWait: time.Second}, usecase.Deps{Store: w.port, Waiter: w, Log: slog.New(slog.DiscardHandler), Vault: v})
	return w
}

// password is that of private.
var password = secrettest.New("a password of a registry")

func private(req usecase.CreateRequest) usecase.CreateRequest {
	req.Credentials = sandbox.Credentials{Username: "robot", Password: password}
	return req
}

func TestCredentialsAreSealed(t *testing.T) {
	t.Parallel()
	v := vault(t)
	w := newVaultWorld(t, v)
	req := private(create())
	req.Async = true
	made, err := w.uses.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	id := made.Record.ID
	sealed, err := w.store.Secret(t.Context(), id)
	if err != nil || bytes.Contains(sealed, []byte(password)) {
		t.Fatalf("sealed: %v", err)
	}
	clear, err := v.Unseal(id, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := sandbox.DecodeCredentials(clear); err != nil || c != req.Credentials {
		t.Errorf("the agent gets others: %v", err)
	}
	record, err := w.store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(record); err != nil || strings.Contains(string(text), password) || !record.Spec.Private {
		t.Errorf("record %s, %v", text, err)
	}
	plain := create()
	plain.Async = true
	if made, err = w.uses.Create(t.Context(), plain); err != nil || made.Record.Spec.Private {
		t.Fatalf("without credentials: %v", err)
	}
	if sealed, err := w.store.Secret(t.Context(), made.Record.ID); err != nil || sealed != nil {
		t.Errorf("a secret of nothing: %v", err)
	}
}

// hashes notes what keys a store is given.
type hashes struct {
	usecase.Vault
	given []string
}

func (h *hashes) Digest(text string) string {
	h.given = append(h.given, text)
	return h.Vault.Digest(text)
}

func TestKeyOfACreateWithCredentials(t *testing.T) {
	t.Parallel()
	h := &hashes{Vault: vault(t)}
	w := newVaultWorld(t, h)
	req := private(keyed("k", "hash of the body"))
	req.Async = true
	first, err := w.uses.Create(t.Context(), req)
	if err != nil || len(h.given) != 1 || h.given[0] != "hash of the body" {
		t.Fatalf("first: %v, digests of %q", err, h.given)
	}
	if again, err := w.uses.Create(t.Context(), req); err != nil || !again.Replayed || again.Record.ID != first.Record.ID {
		t.Errorf("the same again: %+v, %v", again.Record.ID, err)
	}
	other := private(keyed("k", "hash of a body with another password"))
	_, err = w.uses.Create(t.Context(), other)
	w.want("another password", err, fault.Conflict, sandbox.CodeKeyReused)
}

// broken cannot seal.
type broken struct{ usecase.Vault }

func (broken) Seal(sandbox.ID, []byte) ([]byte, error) { return nil, errors.New("no key") }

func TestCredentialsThatCannotBeSealed(t *testing.T) {
	t.Parallel()
	for kind, v := range map[fault.Kind]usecase.Vault{fault.Invalid: nil, fault.Internal: broken{}} {
		w := newVaultWorld(t, v)
		_, err := w.uses.Create(t.Context(), private(create()))
		if !fault.Is(err, kind) {
			t.Errorf("%v; want %v", err, kind)
		}
		secrettest.Absent(t, "the error", fmt.Sprint(err))
		if page, err := w.uses.List(t.Context(), usecase.ListRequest{Page: 1, PageSize: 1}); err != nil || page.Total != 0 {
			t.Errorf("%d sandboxes were made, %v", page.Total, err)
		}
	}
}
