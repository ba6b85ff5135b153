package agentrpc

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/fault"
	"opensandbox/libs/httpx"
	"opensandbox/libs/kitx"
	"opensandbox/libs/sandbox"
)

// ServerConfig of the agent's side.
type ServerConfig struct {
	// Node is the name of the agent's node: calls that were signed for another are refused.
	Node string
	// Secret is the one that api and agents share.
	Secret string
	// Clock is the wall clock; nil takes time.Now.
	Clock    func() time.Time
	Registry prometheus.Registerer
	// Tracers may be nil.
	Tracers trace.TracerProvider
	Log     *slog.Logger
}

// Handler serves a LiveReader.
type Handler struct {
	cfg    ServerConfig
	signer signer
	next   http.Handler
	// tunnels are the connections that have left HTTP.
	tunnels tunnels

	mu sync.Mutex
	// refusedAt is when a refused call was last logged; refused counts those since.
	refusedAt time.Time
	refused   int
}

// refusedEvery bounds the lines in the log that strangers can cause.
const refusedEvery = time.Minute

// maxBody: no call has a body.
const maxBody = 1 << 10

// NewHandler returns the handler of the internal API in front of live, with tunnels if that is a Dialer. Close ends them.
func NewHandler(cfg ServerConfig, live LiveReader) (*Handler, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	s, err := newSigner(cfg.Secret)
	if err != nil {
		return nil, err
	}
	var options []kitx.Option
	if cfg.Tracers != nil {
		options = append(options, kitx.Traced(cfg.Tracers))
	}
	k, err := kitx.New(cfg.Log, cfg.Registry, options...)
	if err != nil {
		return nil, err
	}
	h := &Handler{cfg: cfg, signer: s, next: k}
	kitx.Route(k, "GET /internal/v1/sandboxes/{id}/logs", kitx.Op("LiveLogs", http.StatusOK), h.decode("tail", MaxLines, 100),
		func(ctx context.Context, w wish) (logsAnswer, error) {
			lines, err := live.Logs(ctx, w.ref, w.n)
			return logsAnswer{append([]string{}, lines...)}, err
		})
	kitx.Route(k, "GET /internal/v1/sandboxes/{id}/inspect", kitx.Op("LiveInspect", http.StatusOK), h.decode("", 0, 0),
		func(ctx context.Context, w wish) (Inspection, error) { return live.Inspect(ctx, w.ref) })
	kitx.Route(k, "GET /internal/v1/sandboxes/{id}/events", kitx.Op("LiveEvents", http.StatusOK), h.decode("limit", MaxEvents, MaxEvents),
		func(ctx context.Context, w wish) (eventsAnswer, error) {
			events, err := live.Events(ctx, w.ref, w.n)
			return eventsAnswer{append([]Event{}, events...)}, err
		})
	if d, ok := live.(Dialer); ok {
		k.Handle("GET /internal/v1/sandboxes/{id}/tunnel", kitx.Op("Tunnel", http.StatusSwitchingProtocols), h.tunnel(d))
	}
	return h, nil
}

// ServeHTTP serves calls that are signed.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.signer.check(r, h.cfg.Node, h.cfg.Clock()); err != nil {
		h.refuse(r, err)
		kitx.WriteError(w, fault.New(fault.Unauthenticated, "this API is for the processes of the installation only"))
		return
	}
	httpx.WithRequestID(httpx.LimitBody(maxBody, h.next)).ServeHTTP(w, r)
}

// refuse logs a call that was refused, now and then.
func (h *Handler) refuse(r *http.Request, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused++
	if now := h.cfg.Clock(); now.Sub(h.refusedAt) >= refusedEvery {
		h.cfg.Log.WarnContext(r.Context(), "internal calls refused", "from", r.RemoteAddr, "reason", why, "count", h.refused)
		h.refusedAt, h.refused = now, 0
	}
}

// wish is what is asked for.
type wish struct {
	ref Ref
	n   int
}

// decode returns the decoder of a route whose parameter name is a number from 1 on, cut to max; the empty name: none.
func (h *Handler) decode(name string, max, missing int) func(context.Context, *http.Request) (wish, error) {
	return func(_ context.Context, r *http.Request) (wish, error) {
		q := r.URL.Query()
		epoch, err := strconv.ParseUint(q.Get("epoch"), 10, 64)
		if err != nil {
			return wish{}, invalid("epoch", "expected a whole number")
		}
		w := wish{Ref{h.cfg.Node, sandbox.ID(r.PathValue("id")), epoch}, missing}
		if name == "" || !q.Has(name) {
			return w, nil
		}
		n, err := strconv.Atoi(q.Get(name))
		if err != nil || n < 1 {
			return wish{}, invalid(name, "expected a whole number from 1 on")
		}
		w.n = min(n, max)
		return w, nil
	}
}

func invalid(field, problem string) error {
	return fault.New(fault.Invalid, field+": "+problem).WithDetails(fault.Detail{Field: field, Problem: problem})
}
