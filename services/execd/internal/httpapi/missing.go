package httpapi

import (
	"net/http"

	"opensandbox/libs/fault"
)

const noIsolation = "isolated sessions are not available in this execd: namespace isolation is not built in"

// registerMissing answers the parts of the API that are not offered, so that clients can say what is missing.
func (a *API) registerMissing() {
	a.routes.on("*", "/v1/isolated/{...}", func(http.ResponseWriter, *http.Request, []string) error {
		return fault.New(fault.Unavailable, noIsolation).WithCode(codeNotSupported)
	})
}

// isolationCapabilities answers 200 although isolation is missing: clients ask here before they use the rest.
func isolationCapabilities(w http.ResponseWriter, _ *http.Request, _ []string) error {
	return writeJSON(w, http.StatusOK, struct {
		Available       bool   `json:"available"`
		Message         string `json:"message"`
		SetprivAvail    bool   `json:"setpriv_available"`
		UsernsAvail     bool   `json:"userns_available"`
		CommitSupported bool   `json:"commit_supported"`
		DiffSupported   bool   `json:"diff_supported"`
	}{Message: noIsolation})
}

func noIsolatedSessions(w http.ResponseWriter, _ *http.Request, _ []string) error {
	return writeJSON(w, http.StatusOK, map[string][]struct{}{"sessions": {}})
}
