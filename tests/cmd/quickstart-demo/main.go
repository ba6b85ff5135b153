// Command quickstart-demo shows a running server at work: it creates a sandbox, runs a command in it, prints the output and
// deletes the sandbox. It needs nothing but the server, so that make quickstart works on a machine without curl and Python.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	// allowed is the time for the whole demonstration; a first create may have to pull an image.
	allowed = 3 * time.Minute
	// beat is the time between two signs of life while a step runs.
	beat = time.Second
	// cleanup is the time for deleting the sandbox, also after an interrupt.
	cleanup = 30 * time.Second
	// command is what the demonstration runs.
	command = "echo hello from $(uname -n)"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:8080", "address of the server")
	keyFile := flag.String("key-file", "", "file with the API key")
	image := flag.String("image", "python:3.11-slim", "image of the sandbox")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *url, *keyFile, *image); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart-demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, url, keyFile, image string) (err error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("read the API key: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, allowed)
	defer cancel()
	c := client{base: strings.TrimRight(url, "/"), key: strings.TrimSpace(string(key))}

	var box sandbox
	if err := step(out, "Creating a sandbox", func() (err error) { box, err = c.create(ctx, image); return err }); err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		err = errors.Join(err, step(out, "Deleting the sandbox", func() error { return c.remove(ending, box.ID) }))
	}()
	var access endpoint
	if err := step(out, "Waiting for sandbox "+box.ID, func() (err error) { access, err = c.access(ctx, box); return err }); err != nil {
		return err
	}
	fmt.Fprintf(out, "Running in the sandbox: %s\n", command)
	return c.run(ctx, out, access, command)
}

// step prints text, a dot per second while work runs, and how it ended.
func step(out io.Writer, text string, work func() error) error {
	fmt.Fprint(out, text)
	start := time.Now()
	done := make(chan error, 1)
	go func() { done <- work() }()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprint(out, " .")
		case err := <-done:
			verdict := "done"
			if err != nil {
				verdict = "failed"
			}
			fmt.Fprintf(out, " %s (%.1f s)\n", verdict, time.Since(start).Seconds())
			return err
		}
	}
}
