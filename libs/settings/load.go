package settings

import "errors"

// Load reads the configuration of a single binary that has only the SQLite store. New callers use Read.
func Load(path string, lookup func(string) (string, bool)) (Settings, []string, error) {
	s, err := Read(Options{Path: path, Lookup: lookup})
	if s.Store.Type == StoreRedis && s.Store.url.IsSet() {
		err = errors.Join(err, s.loaded.Mistake("store.type", `only "sqlite" is available yet`))
	}
	s.Scheduler.MaxSandboxes = s.Agent.MaxSandboxes
	return s, s.Warnings, err
}

// Guard is the method of that name with a look at the environment. New callers use the method.
func Guard(s Settings, lookup func(string) (string, bool)) error {
	v, _ := lookup("OPENSANDBOX_INSECURE_SERVER")
	s.Insecure = v == "YES"
	return s.Guard()
}
