// Package code keeps code contexts: each has a kernel, in which snippets run one after the other and find the variables of those before
// them. It knows nothing of HTTP, and nothing of how kernels are reached.
package code

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"opensandbox/libs/fault"
)

// ErrGone is wrapped by the errors of a Kernel that does not exist any more, and never will again.
var ErrGone = errors.New("the kernel is gone")

// Kernels starts kernels. It may be used concurrently.
type Kernels interface {
	// Start starts a kernel for a language. dir is the absolute path of its working directory; empty leaves it to the kernels' own default.
	// A kernel that started after ctx ended MUST be ended again.
	Start(ctx context.Context, language, dir string) (Kernel, error)
}

// Kernel is a running interpreter. It may be used concurrently, but runs one snippet at a time.
type Kernel interface {
	// ID names the kernel, and never changes.
	ID() string
	// Connect prepares one execution. It returns once the kernel takes code.
	Connect(ctx context.Context) (Execution, error)
	// Interrupt stops what the kernel runs, and nothing else: it succeeds when nothing runs.
	Interrupt(ctx context.Context) error
	// Stop ends the kernel. That it is gone already is a success.
	Stop(ctx context.Context) error
}

// Execution is a connection to a kernel for one snippet.
type Execution interface {
	// Run runs a snippet and returns when the kernel is done with it and everything was given to the sink. An error is a failure of the
	// kernel or of the way to it; what the snippet itself raises goes to the sink. When ctx ends, its cause is the error, and the kernel
	// goes on. Run is called once, and frees the connection.
	Run(ctx context.Context, snippet string, sink Output) error
	// Close frees a connection that Run was not called on.
	Close()
}

// Output receives what a snippet does. It is called from one goroutine. Its methods return nothing: once nobody listens any more, the rest
// is thrown away while the snippet goes on.
type Output interface {
	// Text delivers a part of "stdout" or "stderr".
	Text(stream, text string)
	// Result delivers the value of the snippet, by MIME type. count is the number of the snippet in its kernel; 0 means that it is unknown.
	Result(count int, values map[string]string)
	// Display delivers what the snippet shows besides its value, such as a figure, by MIME type.
	Display(values map[string]string)
	// Raised delivers an error of the snippet.
	Raised(name, value string, trace []string)
}

// Sink receives a whole run.
type Sink interface {
	Output
	// Started tells the id of the context, before any output and on the caller's goroutine.
	Started(id string)
}

// Context is what clients learn about a context.
type Context struct {
	ID       string `json:"id"`
	Language string `json:"language"`
	Cwd      string `json:"cwd,omitempty"`
}

// Request is a snippet as a client asks for it.
type Request struct {
	Code string
	// ContextID names a context, which then decides on the language. Without it the default context of the language is used.
	ContextID string
	Language  string
}

// Wire codes of OpenSandbox 1.1.1.
const (
	codeRuntime         = "RUNTIME_ERROR"
	codeBody            = "INVALID_REQUEST_BODY"
	codeContextNotFound = "CONTEXT_NOT_FOUND"
	codeNotSupported    = "NOT_SUPPORTED"
)

const (
	// startWait bounds how long a kernel may take to start, a Jupyter server that is itself still starting included. Clients wait for 30 s.
	startWait = 25 * time.Second
	// connectWait bounds how long a kernel may take to accept code: a minute is what Jupyter itself gives one that starts.
	connectWait = time.Minute
	// callWait bounds an interrupt, and the end of a kernel: Jupyter asks it politely for 5 s first.
	callWait = 20 * time.Second
)

// languages are those that OpenSandbox 1.1.1 runs in kernels. Whether there is a kernel for one depends on the image.
var languages = []string{"python", "java", "javascript", "typescript", "go", "bash"}

// checkLanguage refuses languages that have no contexts.
func checkLanguage(language string) error {
	switch {
	case slices.Contains(languages, language):
		return nil
	case language == "":
		return fault.New(fault.Invalid, "invalid request, validation error language is required").WithCode(codeBody)
	case language == "sql":
		return fault.New(fault.Unsupported, "SQL is not offered by this execd").WithCode(codeNotSupported)
	case language == "command" || language == "background-command":
		return runtimeFault("unsupported language context operation: " + language)
	default:
		return runtimeFault("error running codes unknown language: " + language)
	}
}

// runtimeFault is a failure that a client must not simply repeat: the published ones repeat 502 and 503, but not 500.
func runtimeFault(text string) *fault.Error {
	return fault.New(fault.Internal, text).WithCode(codeRuntime)
}

func notFound(id string) error {
	return fault.Newf(fault.NotFound, "context not found: %s", id).WithCode(codeContextNotFound)
}

// Texts returns the values of a bundle of MIME types as text: some clients lose a result that has anything else. A list of strings is one
// text in pieces; any other JSON stays JSON.
func Texts(bundle map[string]json.RawMessage) map[string]string {
	out := make(map[string]string, len(bundle))
	for kind, raw := range bundle {
		var text string
		var pieces []string
		switch {
		case json.Unmarshal(raw, &text) == nil:
		case json.Unmarshal(raw, &pieces) == nil:
			for _, p := range pieces {
				text += p
			}
		default:
			text = string(raw)
		}
		out[kind] = text
	}
	return out
}
