package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// execdPort is where the daemon of a sandbox listens.
	execdPort = 44772
	// poll is the time between two looks at a sandbox that is not running yet.
	poll = 250 * time.Millisecond
	// maxError bounds how much of an error answer is shown.
	maxError = 4 << 10
)

// client speaks to one server. The zero values of its fields are not usable.
type client struct {
	base, key string
}

type sandbox struct {
	ID     string `json:"id"`
	Status struct {
		State   string `json:"state"`
		Message string `json:"message"`
	} `json:"status"`
}

type endpoint struct {
	Endpoint string            `json:"endpoint"`
	Headers  map[string]string `json:"headers"`
}

// event is one object of the daemon's answer to a command.
type event struct {
	Type  string `json:"type"`
	Text  string `json:"text"`
	Error *struct {
		Name  string `json:"ename"`
		Value string `json:"evalue"`
	} `json:"error"`
}

func (c client) create(ctx context.Context, image string) (sandbox, error) {
	var made sandbox
	err := c.call(ctx, http.MethodPost, "/v1/sandboxes", map[string]any{
		"image":          map[string]string{"uri": image},
		"entrypoint":     []string{"tail", "-f", "/dev/null"},
		"timeout":        600,
		"resourceLimits": map[string]string{"cpu": "1", "memory": "512Mi"},
	}, &made)
	return made, err
}

// access waits until the sandbox runs and asks where its daemon is.
func (c client) access(ctx context.Context, box sandbox) (endpoint, error) {
	var where endpoint
	for box.Status.State == "Pending" {
		select {
		case <-ctx.Done():
			return where, ctx.Err()
		case <-time.After(poll):
		}
		if err := c.call(ctx, http.MethodGet, "/v1/sandboxes/"+box.ID, nil, &box); err != nil {
			return where, err
		}
	}
	if box.Status.State != "Running" {
		return where, fmt.Errorf("the sandbox is %s: %s", box.Status.State, box.Status.Message)
	}
	err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/sandboxes/%s/endpoints/%d", box.ID, execdPort), nil, &where)
	return where, err
}

func (c client) remove(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/sandboxes/"+id, nil, nil)
}

// run runs a command in the sandbox and copies its output to out.
func (c client) run(ctx context.Context, out io.Writer, where endpoint, command string) error {
	response, err := send(ctx, http.MethodPost, "http://"+where.Endpoint+"/command", where.Headers, map[string]string{"command": command})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return output(response.Body, out)
}

// output copies the text of the events in stream to out, until the command has ended.
func output(stream io.Reader, out io.Writer) error {
	for events := json.NewDecoder(stream); ; {
		var e event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			return errors.New("the answer ended before the command")
		} else if err != nil {
			return fmt.Errorf("read the output of the command: %w", err)
		}
		switch {
		case e.Type == "stdout" || e.Type == "stderr":
			fmt.Fprintf(out, "  %s\n", strings.TrimRight(e.Text, "\r\n"))
		case e.Type == "error" && e.Error != nil:
			return fmt.Errorf("the command failed: %s %s", e.Error.Name, e.Error.Value)
		case e.Type == "execution_complete":
			return nil
		}
	}
}

// call sends one request to the lifecycle API and decodes the answer into result, which may be nil.
func (c client) call(ctx context.Context, method, path string, body, result any) error {
	response, err := send(ctx, method, c.base+path, map[string]string{"OPEN-SANDBOX-API-KEY": c.key}, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if result == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// send turns every answer that is not a success into an error with its text. The caller closes the body.
func send(ctx context.Context, method, url string, headers map[string]string, body any) (*http.Response, error) {
	payload := io.Reader(http.NoBody)
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		payload = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, payload)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxError))
	return nil, fmt.Errorf("%s %s: %s: %s", method, url, response.Status, bytes.TrimSpace(text))
}
