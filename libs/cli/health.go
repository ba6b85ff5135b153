package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"opensandbox/libs/settings"
)

// healthTimeout is under what probes of container engines give by default: Docker 30 s; Kubernetes says so itself if it has less.
const healthTimeout = 5 * time.Second

// health asks the process that runs with the same configuration.
func (c command) health(ctx context.Context, path string) int {
	s, err := settings.Read(settings.Options{Process: c.Process, Path: path, Lookup: c.Lookup})
	if err != nil {
		c.complain(err)
		return ExitFailed
	}
	target, err := s.HealthURL()
	if err == nil {
		err = ask(ctx, target)
	}
	if err != nil {
		c.complain(fmt.Errorf("not healthy: %w", err))
		return ExitFailed
	}
	return c.print("healthy\n")
}

// ask uses no proxy and follows nothing: only the process itself can answer for itself.
func ask(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%s: %w", target, e.Err)
	}
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // the status has said all
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", target, resp.StatusCode)
	}
	return nil
}
