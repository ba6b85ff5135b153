package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/settings"
)

func FuzzRead(f *testing.F) {
	f.Add(full, "SERVER_PORT", "1")
	f.Add("[store]\ntype = 'redis'\n[agent.labels]\na = 1\n", "STORE_REDIS_URL", "redis-cluster://a,b")
	f.Add("[scheduler.default_request]\ncpu = '1e3'\n[agent]\nlisten = '[::1]:0'\n", "AGENT_LABELS", "a=b")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content, key, value string) {
		path := filepath.Join(dir, "f.toml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := settings.Read(settings.Options{Path: path, Lookup: env(map[string]string{"OPENSANDBOX_" + key: value})})
		if err != nil {
			return
		}
		if s.Server.Port < 1 || s.Docker.PortMax-s.Docker.PortMin < 100 || s.Scheduler.NodeLostAfter < 30*time.Second ||
			(s.Store.Type == settings.StoreRedis) && len(s.Store.Redis.Addrs) == 0 {
			t.Errorf("taken: %q with %s=%q", content, key, value)
		}
		if err := s.Print(&strings.Builder{}); err != nil {
			t.Error(err)
		}
	})
}
