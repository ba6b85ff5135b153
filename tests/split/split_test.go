package split

import (
	"slices"
	"testing"
)

func TestAgentPublishesWhereItIsReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, engine, want string }{
		{"127.0.0.1", "", "OPENSANDBOX_DOCKER_PUBLISH_HOST=127.0.0.1"},
		{"10.0.0.2", "tcp://10.0.0.2:2375", "OPENSANDBOX_DOCKER_PUBLISH_HOST=0.0.0.0"},
	} {
		env := Agent{Host: c.host, Engine: c.engine}.Env()
		if !slices.Contains(env, c.want) {
			t.Errorf("%s: %q, want %s", c.host, env, c.want)
		}
		if told := slices.Contains(env, "DOCKER_HOST="+c.engine); told != (c.engine != "") {
			t.Errorf("%s: the engine is told: %v", c.host, told)
		}
	}
}

func TestInstallationsDiffer(t *testing.T) {
	t.Parallel()
	a, b := NewSettings("x", "key"), NewSettings("x", "key")
	if a.Installation == b.Installation || a.Secret == b.Secret {
		t.Errorf("two platforms are told the same: %v", a.Installation)
	}
}
