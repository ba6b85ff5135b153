// Command static-app is the only file of a test image without a shell: it prints a line, answers HTTP on port 8080 and ends
// with 0 on SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	address = ":8080"
	// headerTimeout is far longer than a client on the same machine needs.
	headerTimeout = 10 * time.Second
	// grace is how long requests may take once the program shall end.
	grace = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "static-app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	server := &http.Server{Addr: address, ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(answer)}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Fprintln(out, "static-app listens on", address)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := server.Shutdown(ending)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

func answer(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "static-app", r.URL.Path) }
