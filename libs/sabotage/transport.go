//go:build sabotage

package sabotage

import (
	"net/http"
	"regexp"
	"slices"
)

// The calls of Docker's API that change something on the engine.
const (
	EngineCreateNetwork    Step = "engine.POST /networks/create"
	EngineRemoveNetwork    Step = "engine.DELETE /networks/{name}"
	EngineImportImage      Step = "engine.POST /images/create"
	EngineRemoveImage      Step = "engine.DELETE /images/{name}"
	EngineCreateVolume     Step = "engine.POST /volumes/create"
	EngineRemoveVolume     Step = "engine.DELETE /volumes/{name}"
	EngineCreateContainer  Step = "engine.POST /containers/create"
	EngineStartContainer   Step = "engine.POST /containers/{name}/start"
	EngineKillContainer    Step = "engine.POST /containers/{name}/kill"
	EnginePauseContainer   Step = "engine.POST /containers/{name}/pause"
	EngineUnpauseContainer Step = "engine.POST /containers/{name}/unpause"
	EngineRemoveContainer  Step = "engine.DELETE /containers/{name}"
)

func engineSteps() []Step {
	return []Step{
		EngineCreateNetwork, EngineRemoveNetwork, EngineImportImage, EngineRemoveImage, EngineCreateVolume, EngineRemoveVolume,
		EngineCreateContainer, EngineStartContainer, EngineKillContainer, EnginePauseContainer, EngineUnpauseContainer, EngineRemoveContainer,
	}
}

// Transport returns next with the calls sabotaged that change something on an engine. What is neither in the list above nor a GET or HEAD is a
// step, too, so that a test which knows the list finds it.
func (s *Saboteur) Transport(next http.RoundTripper) http.RoundTripper { return transport{next, s} }

type transport struct {
	next http.RoundTripper
	by   *Saboteur
}

// RoundTrip implements http.RoundTripper. After an answer that says no, the step has not been taken.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		return t.next.RoundTrip(req)
	}
	step := engineStep(req.Method, req.URL.Path)
	t.by.reach(step, Before)
	res, err := t.next.RoundTrip(req)
	if err == nil && res.StatusCode < http.StatusBadRequest {
		t.by.reach(step, After)
	}
	return res, err
}

// versioned begins the paths of a client that has agreed on a version.
var versioned = regexp.MustCompile(`^/v[0-9.]+/`)

// named is a path to one thing of the engine, perhaps with what is done to it.
var named = regexp.MustCompile(`^(/(?:containers|images|networks|volumes)/)(.+?)(/(?:start|kill|pause|unpause|attach|wait|stop|tag))?$`)

func engineStep(method, path string) Step {
	path = versioned.ReplaceAllString(path, "/")
	if m := named.FindStringSubmatch(path); m != nil && !slices.Contains([]string{"create", "prune"}, m[2]) {
		path = m[1] + "{name}" + m[3]
	}
	return Step("engine." + method + " " + path)
}
