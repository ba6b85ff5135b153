//go:build integration

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/cli"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
)

const installationID = "test"

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to that: %s", what)
		}
	}
}

// open connects to the store as the other processes do.
func open(t *testing.T, server *redistest.Server) (*redisstore.Store, redis.UniversalClient) {
	t.Helper()
	client := func() redis.UniversalClient {
		c, err := redisstore.NewClient(redisstore.ClientConfig{Mode: redisstore.ModeSingle, Addrs: []string{server.Addr()}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	store, err := redisstore.Open(t.Context(), redisstore.Config{Client: client(), Installation: installationID})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	c := client()
	t.Cleanup(func() { _ = c.Close() })
	return store, c
}

// TestTwoSchedulers runs two replicas on a real Redis through the work of a scheduler, and ends them in order.
func TestTwoSchedulers(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var replicas sync.WaitGroup
	admins := []string{freeAddress(t), freeAddress(t)}
	for _, admin := range admins {
		replicas.Go(func() {
			config := fmt.Sprintf("[server]\nadmin_listen = %q\ninstallation_id = %q\n[store]\ntype = \"redis\"\nredis_url = \"redis://%s\"\n[renew_intent]\nenabled = true\n",
				admin, installationID, server.Addr())
			if code, output := execute(ctx, t, config); code != cli.ExitOK {
				t.Errorf("exit code %d: %s", code, output)
			}
		})
	}
	defer replicas.Wait()
	defer cancel()
	for _, admin := range admins {
		await(t, "ready", func() bool { status, _ := get(t, "http://"+admin+"/ready"); return status == http.StatusOK })
	}
	store, client := open(t, server)
	work(t, store, client)
	total := ""
	for _, admin := range admins {
		_, body := get(t, "http://"+admin+"/metrics")
		total += body
	}
	for _, want := range []string{
		"opensandbox_scheduler_expired_total 1", `opensandbox_scheduler_renew_intents_total{outcome="renewed"} 1`, `opensandbox_store_operation_duration_seconds_count{operation="place",outcome="ok"}`,
		`opensandbox_sandboxes{node="n",state="Running"} 1`,
	} {
		if !strings.Contains(total, want) {
			t.Errorf("the metrics of both do not contain %q", want)
		}
	}
	server.Kill()
	for _, admin := range admins {
		await(t, "not ready without the store", func() bool {
			status, _ := get(t, "http://"+admin+"/ready")
			return status == http.StatusServiceUnavailable
		})
	}
	server.Start()
	for _, admin := range admins {
		await(t, "ready again", func() bool { status, _ := get(t, "http://"+admin+"/ready"); return status == http.StatusOK })
	}
}

// work has a sandbox that is placed and ends in time, and one that lives on because it is used.
func work(t *testing.T, store *redisstore.Store, client redis.UniversalClient) {
	t.Helper()
	ctx := t.Context()
	n, err := store.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 99})
	if err != nil {
		t.Fatal(err)
	}
	for id, spec := range map[sandbox.ID]sandbox.Spec{
		"ends": {Image: "i", Entrypoint: []string{"e"}, Timeout: 2 * time.Second},
		"used": {Image: "i", Entrypoint: []string{"e"}, Timeout: time.Minute, RenewOnAccess: time.Hour},
	} {
		if _, err := store.Insert(ctx, sandbox.New{ID: id, Accepted: true, Spec: spec}); err != nil {
			t.Fatal(err)
		}
	}
	record := func(id sandbox.ID) sandbox.Record {
		r, err := store.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	await(t, "placed", func() bool { a, b := record("ends"), record("used"); return a.Placed() && b.Placed() })
	_, err = store.Report(ctx, sandbox.Report{ID: "used", Node: "n", Epoch: 1, Session: n.Session, Generation: 1, State: sandbox.StateRunning})
	if err != nil {
		t.Fatal(err)
	}
	intent := fmt.Sprintf(`{"sandbox_id":"used","observed_at":%q,"port":8080}`, time.Now().UTC().Format(time.RFC3339Nano))
	if err := client.LPush(ctx, redisstore.RenewIntentsKey(installationID), intent).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "renewed", func() bool { r := record("used"); return time.Until(r.Intent.ExpiresAt) > 50*time.Minute })
	await(t, "expired", func() bool { r := record("ends"); return r.Gone() && r.Intent.Reason == sandbox.ReasonExpired })
}
