package httpapi

import (
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// The answers. Optional fields are left out, never null: published clients fail on nulls.

type statusBody struct {
	State            sandbox.State `json:"state"`
	Reason           string        `json:"reason,omitempty"`
	Message          string        `json:"message,omitempty"`
	LastTransitionAt string        `json:"lastTransitionAt,omitempty"`
}

type imageBody struct {
	URI string `json:"uri"`
}

type platformBody struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

type sandboxBody struct {
	ID         sandbox.ID        `json:"id"`
	Image      *imageBody        `json:"image,omitempty"`
	Platform   *platformBody     `json:"platform,omitempty"`
	Status     statusBody        `json:"status"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Extensions map[string]string `json:"extensions,omitempty"`
	Entrypoint []string          `json:"entrypoint"`
	ExpiresAt  string            `json:"expiresAt,omitempty"`
	CreatedAt  string            `json:"createdAt"`
}

type paginationBody struct {
	Page        int  `json:"page"`
	PageSize    int  `json:"pageSize"`
	TotalItems  int  `json:"totalItems"`
	TotalPages  int  `json:"totalPages"`
	HasNextPage bool `json:"hasNextPage"`
}

type listBody struct {
	Items      []sandboxBody  `json:"items"`
	Pagination paginationBody `json:"pagination"`
}

type endpointBody struct {
	Endpoint string            `json:"endpoint"`
	Headers  map[string]string `json:"headers,omitempty"`
}

type renewBody struct {
	ExpiresAt string `json:"expiresAt"`
}

// stamp writes a time as OpenSandbox 1.1.1 does: RFC 3339 in UTC, with microseconds unless they are zero.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t = t.UTC()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05Z")
	}
	return t.Format("2006-01-02T15:04:05.000000Z")
}

func sandboxOf(v usecase.View) sandboxBody {
	b := createdOf(v)
	b.Image = &imageBody{URI: v.Record.Spec.Image}
	return b
}

// createdOf is the answer to a create, which has no image.
func createdOf(v usecase.View) sandboxBody {
	r := &v.Record
	return sandboxBody{
		ID: r.ID, Platform: asked(r.Spec.Needs.Platform), Metadata: r.Intent.Metadata, Extensions: r.Spec.Extensions, Entrypoint: r.Spec.Entrypoint,
		ExpiresAt: stamp(r.Intent.ExpiresAt), CreatedAt: stamp(r.CreatedAt),
		Status: statusBody{State: v.Status.State, Reason: v.Status.Reason, Message: v.Status.Message, LastTransitionAt: stamp(v.Status.ChangedAt)},
	}
}

// asked returns the platform that a create asked for; nil if it did not.
func asked(platform string) *platformBody {
	os, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil
	}
	return &platformBody{os, arch}
}

func listOf(p usecase.Page) listBody {
	pages := (p.Total + p.PageSize - 1) / p.PageSize
	b := listBody{
		Items:      make([]sandboxBody, 0, len(p.Items)),
		Pagination: paginationBody{Page: p.Page, PageSize: p.PageSize, TotalItems: p.Total, TotalPages: pages, HasNextPage: p.Page < pages},
	}
	for _, v := range p.Items {
		b.Items = append(b.Items, sandboxOf(v))
	}
	return b
}

// parseTime takes the times that clients send: RFC 3339 with Z or an offset, with any number of fraction digits; a time without a
// zone is UTC.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1 && t.Year() < 10000 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func atoi(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil
}
