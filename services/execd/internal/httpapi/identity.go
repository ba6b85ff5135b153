package httpapi

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/files"
	"opensandbox/services/execd/internal/identity"
)

// codeDenied is the answer to a file operation that the identity may not do. OpenSandbox 1.1.1 does not say which code it sends.
const codeDenied = "PERMISSION_DENIED"

// asIdentity lets a worker with the user and group of the path answer; route is the rest of the path.
func (a *API) asIdentity(w http.ResponseWriter, r *http.Request, args []string, route string) error {
	uid, err := identity.ParseID(args[0])
	if err != nil {
		return err
	}
	gid, err := identity.ParseID(args[1])
	if err != nil {
		return err
	}
	return a.cfg.Identities.Serve(w, r, uid, gid, route)
}

// fileWorker is the file API as a worker process serves it: to execd alone, which has checked the token.
type fileWorker struct {
	routes router
	log    *slog.Logger
}

// NewFileWorker returns the handler of a worker process.
func NewFileWorker(f *files.Service, log *slog.Logger) http.Handler {
	h := &fileWorker{log: log}
	for _, rt := range fileRoutes(f) {
		h.routes.on(rt.method, rt.path, rt.handle)
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *fileWorker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer recovered(w, r, h.log)
	w.Header().Set(requestIDHeader, requestID(r))
	rt, args := h.routes.find(r.URL.Path)
	if rt == nil || rt.methods[r.Method] == nil {
		fail(w, fault.Newf(fault.NotFound, "no such route: %s %s", r.Method, r.URL.Path).WithCode(codeNotFound))
		return
	}
	if err := rt.methods[r.Method](w, r, args); err != nil {
		fail(w, denied(err))
	}
}

// denied gives a refusal by the kernel a status of its own: under another identity it is an answer, not an accident.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Forbidden, fault.TextOf(err)).WithCode(codeDenied).Because(err)
	}
	return err
}
