// Command static-app is the only file of a test image without a shell.
//
//	static-app             prints a line, answers HTTP on port 8080 and ends with 0 on SIGTERM
//	static-app tell NAME…  prints its user, its group, its directory and a line for each of these variables; ends with 3 if one is missing
//	static-app hold        prints a line and waits for SIGTERM, on which it ends with 0
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
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, errMissing):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "static-app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 0:
		return serve(ctx, out)
	case args[0] == "tell":
		return tell(args[1:], out)
	case args[0] == "hold":
		fmt.Fprintln(out, "static-app holds")
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("unknown word %q", args[0])
}

// errMissing is the end of a tell that was asked for a variable that is not there.
var errMissing = errors.New("is missing")

func tell(names []string, out io.Writer) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d %d %s\n", os.Getuid(), os.Getgid(), dir)
	for _, name := range names {
		value, there := os.LookupEnv(name)
		if !there {
			return fmt.Errorf("%s %w", name, errMissing)
		}
		fmt.Fprintf(out, "%s=%s\n", name, value)
	}
	return nil
}

func serve(ctx context.Context, out io.Writer) error {
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
