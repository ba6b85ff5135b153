package settings

import (
	"errors"

	"opensandbox/libs/conf"
)

// Kinds of runtime.
const (
	RuntimeDocker     = "docker"
	RuntimeKubernetes = "kubernetes"
)

// Runtime is the section of what runs the sandboxes. Type is RuntimeDocker or RuntimeKubernetes.
type Runtime struct{ Type string }

// SecureRuntime is the section of runtimes that isolate more than the engine's own.
type SecureRuntime struct{ Type, DockerRuntime, RuntimeClass string }

func runtimeKeys(s *Settings) []conf.Key {
	var source string
	execd := only(conf.String("runtime.execd_source", &source, nil), "builtin", `only "builtin" is available yet`)
	execd.Get = nil
	return []conf.Key{
		conf.Enum("runtime.type", &s.Runtime.Type, RuntimeDocker, RuntimeKubernetes).Describe("what runs the sandboxes. The sections of `kubernetes` are checked, but no process starts with it yet", all),
		execd,
		conf.Ignored("runtime.execd_image", "has no effect: the daemon is built in"),
		conf.Ignored("runtime.execd_run_as_init", "has no effect: the daemon is always the first process"),
	}
}

func secureRuntimeKeys(s *Settings) []conf.Key {
	v := &s.SecureRuntime
	return []conf.Key{
		conf.Enum("secure_runtime.type", &v.Type, "", "gvisor", "kata", "firecracker").Allow("empty, gvisor, kata, firecracker").Mark("refused with `docker`: not available yet").
			Describe("isolation of all sandboxes; `docker.allowed_runtimes` lets a create choose one", agent),
		conf.String("secure_runtime.docker_runtime", &v.DockerRuntime, nil).Mark(notYet).Describe("name of that runtime at the engine", agent),
		conf.String("secure_runtime.k8s_runtime_class", &v.RuntimeClass, nil).Mark(notYet).Describe("its RuntimeClass in Kubernetes", agent),
	}
}

// checkSecureRuntime holds the rules of OpenSandbox 1.1.1, and refuses what would start without the isolation that is asked for.
func checkSecureRuntime(s *Settings) error {
	const kind, docker, class = "secure_runtime.type", "secure_runtime.docker_runtime", "secure_runtime.k8s_runtime_class"
	l, v := s.loaded, s.SecureRuntime
	var mistakes []error
	refuse := func(key, problem string) { mistakes = append(mistakes, l.Mistake(key, problem)) }
	switch {
	case v.Type == "":
		for _, key := range []string{docker, class} {
			if l.Set(key) {
				refuse(key, "needs secure_runtime.type")
			}
		}
	case v.Type == "firecracker" && v.RuntimeClass == "":
		refuse(kind, "needs "+class)
	case v.DockerRuntime == "" && v.RuntimeClass == "":
		refuse(kind, "needs "+docker+" or "+class)
	}
	if v.Type != "" && s.Runtime.Type == RuntimeDocker {
		if v.Type == "firecracker" {
			refuse(kind, "is for Kubernetes only")
		} else {
			refuse(kind, "is not available yet; sandboxes would run without the isolation that is asked for. A create can choose a runtime of docker.allowed_runtimes")
		}
	}
	return errors.Join(mistakes...)
}
