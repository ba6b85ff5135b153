// Package httpapi speaks the lifecycle API of OpenSandbox 1.1.1 over HTTP: it turns requests into calls of the use cases and their
// results into answers. It decides nothing about sandboxes.
package httpapi

import (
	"context"
	"net/http"

	"opensandbox/libs/kitx"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/httpapi/openapi"
	"opensandbox/services/api/internal/usecase"
)

// Config of the transport.
type Config struct {
	// APIKey is what clients send in the header OPEN-SANDBOX-API-KEY; empty switches authentication off.
	APIKey string
	// Version is what GET /version answers.
	Version string
	// Created is told how long creates took on the side of published clients, in milliseconds; nil ignores it.
	Created func(event MetricsEvent)
}

// New returns the handler of the whole API: the routes of 1.1.1 at the root and below /v1, all behind the API key, and its documents.
func New(cfg Config, uses *usecase.UseCases, kit *kitx.Kit) (http.Handler, error) {
	document, err := openapi.New(cfg.Version)
	if err != nil {
		return nil, err
	}
	document.Routes(kit)
	for _, prefix := range []string{"", "/v1"} {
		lifecycle(kit, prefix, uses)
		diagnostics(kit, prefix, uses)
		notYet(kit, prefix)
	}
	kitx.Route(kit, "POST /v1/metrics/events", kitx.Op("RecordMetricsEvent", http.StatusNoContent), decodeMetricsEvent, func(_ context.Context, e MetricsEvent) (kitx.None, error) {
		if cfg.Created != nil {
			cfg.Created(e)
		}
		return kitx.None{}, nil
	})
	kitx.Route(kit, "GET /health", kitx.Op("Health", http.StatusOK), nothing, func(context.Context, kitx.None) (map[string]string, error) {
		return map[string]string{"status": "healthy"}, nil
	})
	kitx.Route(kit, "GET /version", kitx.Op("Version", http.StatusOK), nothing, func(context.Context, kitx.None) (map[string]string, error) {
		return map[string]string{"version": cfg.Version}, nil
	})
	return authenticate(cfg.APIKey, document.Has, kit), nil
}

// lifecycle registers the routes of sandboxes, a line each.
func lifecycle(k *kitx.Kit, p string, u *usecase.UseCases) {
	kitx.Route(k, "POST "+p+"/sandboxes", kitx.Op("CreateSandbox", http.StatusAccepted), decodeCreate, create(u))
	kitx.Route(k, "GET "+p+"/sandboxes", kitx.Op("ListSandboxes", http.StatusOK), decodeList, answer(u.List, listOf))
	kitx.Route(k, "GET "+p+"/sandboxes/{id}", kitx.Op("GetSandbox", http.StatusOK), decodeRef, answer(u.Get, sandboxOf))
	kitx.Route(k, "DELETE "+p+"/sandboxes/{id}", kitx.Op("DeleteSandbox", http.StatusNoContent), decodeRef, silent(u.Delete))
	kitx.Route(k, "POST "+p+"/sandboxes/{id}/pause", kitx.Op("PauseSandbox", http.StatusAccepted), decodeRef, silent(u.Pause))
	kitx.Route(k, "POST "+p+"/sandboxes/{id}/resume", kitx.Op("ResumeSandbox", http.StatusAccepted), decodeRef, silent(u.Resume))
	kitx.Route(k, "POST "+p+"/sandboxes/{id}/renew-expiration", kitx.Op("RenewSandbox", http.StatusOK), decodeRenew, answer(u.Renew, renewedOf))
	kitx.Route(k, "PATCH "+p+"/sandboxes/{id}/metadata", kitx.Op("PatchMetadata", http.StatusOK), decodePatch, answer(u.PatchMetadata, sandboxOf))
	kitx.Route(k, "GET "+p+"/sandboxes/{id}/endpoints/{port}", kitx.Op("GetEndpoint", http.StatusOK), decodeEndpoint, answer(u.Endpoint, endpointOf))
}

// answer turns the result of a use case into a body.
func answer[Req, Res, Body any](do func(context.Context, Req) (Res, error), body func(Res) Body) func(context.Context, Req) (Body, error) {
	return func(ctx context.Context, req Req) (Body, error) {
		res, err := do(ctx, req)
		if err != nil {
			var none Body
			return none, err
		}
		return body(res), nil
	}
}

// silent is for use cases whose success has no body.
func silent[Req any](do func(context.Context, Req) error) func(context.Context, Req) (kitx.None, error) {
	return func(ctx context.Context, req Req) (kitx.None, error) { return kitx.None{}, do(ctx, req) }
}

func nothing(context.Context, *http.Request) (kitx.None, error) { return kitx.None{}, nil }

func refOf(r *http.Request) usecase.Ref { return usecase.Ref{ID: sandbox.ID(r.PathValue("id"))} }
