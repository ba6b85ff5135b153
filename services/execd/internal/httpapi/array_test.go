package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"opensandbox/services/execd/internal/files"
)

// TestArray: a list of any length is one array, and one that is not whole never looks as if it were.
func TestArray(t *testing.T) {
	t.Parallel()
	path := strings.Repeat("p", 1000)
	const long = 2 * arrayHeld / 1000
	broken := errors.New("a disk is broken")
	for name, tt := range map[string]struct {
		elements int
		err      error
		status   int
		held, ok bool
	}{
		"none":                 {0, nil, 200, true, true},
		"one":                  {1, nil, 200, true, true},
		"some blocks":          {1000, nil, 200, true, true},
		"long":                 {long, nil, 200, false, true},
		"an error":             {1000, broken, 500, true, false},
		"an error of long one": {long, broken, 200, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				err := array(w, r, func(each func(files.Info) error) error {
					for range tt.elements {
						if err := each(files.Info{Path: path}); err != nil {
							return err
						}
					}
					return tt.err
				})
				if err != nil {
					fail(w, err)
				}
			}))
			defer srv.Close()
			res, err := srv.Client().Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if res.StatusCode != tt.status || res.Header.Get("Content-Type") != jsonType || (res.ContentLength >= 0) != tt.held {
				t.Errorf("status %d, type %q, length %d", res.StatusCode, res.Header.Get("Content-Type"), res.ContentLength)
			}
			var list []files.Info
			if whole := err == nil && json.Unmarshal(body, &list) == nil; whole != tt.ok || whole && len(list) != tt.elements {
				t.Errorf("%d elements of %d in %d bytes, %v", len(list), tt.elements, len(body), err)
			}
		})
	}
}

// TestArrayOfNobody: a walk ends when nobody takes its list any more.
func TestArrayOfNobody(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := array(w, r, func(each func(files.Info) error) error {
			for {
				if err := each(files.Info{Path: "p"}); err != nil {
					ended <- err
					return err
				}
			}
		})
		if err != nil {
			t.Errorf("there is an answer for nobody: %v", err)
		}
	}))
	defer srv.Close()
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	leave()
	if err := <-ended; !errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
}
