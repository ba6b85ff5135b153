//go:build integration

package redisqueue_test

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/renewintent/redisqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server returns a client of a Redis of its own.
func server(t *testing.T) *redis.Client {
	t.Helper()
	client := redistest.Start(t, redistest.Options{}).Client()
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func list(t *testing.T, c *redis.Client, key string) []string {
	t.Helper()
	got, err := c.LRange(t.Context(), key, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func encode(t *testing.T, i renewintent.Intent) []byte {
	t.Helper()
	b, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublish(t *testing.T) {
	client := server(t)
	intent := renewintent.Intent{SandboxID: "sb", ObservedAt: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), RequestURI: "/a%2Fb"}
	unbounded, bounded := redisqueue.New(client, redisqueue.DefaultKey, 0), redisqueue.New(client, "bounded", 2)
	for port := range 3 {
		intent.Port = port + 1
		for _, q := range []*redisqueue.Queue{unbounded, bounded} {
			if err := q.Publish(t.Context(), encode(t, intent)); err != nil {
				t.Fatal(err)
			}
		}
	}
	payload := func(port int) string {
		return `{"sandbox_id":"sb","observed_at":"2026-03-04T05:06:07Z","port":` + strconv.Itoa(port) + `,"request_uri":"/a%2Fb"}`
	}
	if diff := cmp.Diff([]string{payload(3), payload(2), payload(1)}, list(t, client, "opensandbox:renew:intent")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{payload(3), payload(2)}, list(t, client, "bounded")); diff != "" {
		t.Errorf("bounded list (-want +got):\n%s", diff)
	}
	oldest, err := client.BRPop(t.Context(), time.Second, redisqueue.DefaultKey).Result()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{redisqueue.DefaultKey, payload(1)}, oldest); diff != "" {
		t.Errorf("a consumer gets (-want +got):\n%s", diff)
	}
}

func TestPublishFails(t *testing.T) {
	client := server(t)
	if err := client.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := redisqueue.New(client, "text", 0).Publish(t.Context(), []byte("{}")); err == nil {
		t.Error("a key of another type was taken")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := redisqueue.New(client, "list", 0).Publish(ended, []byte("{}")); err == nil {
		t.Error("an ended context was not honoured")
	}
	gone := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer gone.Close()
	if err := redisqueue.New(gone, "list", 0).Publish(t.Context(), []byte("{}")); err == nil {
		t.Error("a server that is not there gave no error")
	}
}
