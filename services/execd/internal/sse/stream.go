// Package sse writes the event streams of execd: bare JSON objects, each followed by a blank line, under the content type
// text/event-stream. This is the framing of OpenSandbox 1.1.1, whose readers lose frames that end in anything but "\n\n" and do
// not expect a "data:" prefix.
package sse

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// KeepAlive is the time between two ping events, as in OpenSandbox 1.1.1.
const KeepAlive = 3 * time.Second

// flushAt bounds the encoded events that are held back while one call writes many of them.
const flushAt = 32 << 10

// ErrClosed is returned by writes after Close.
var ErrClosed = errors.New("the event stream is closed")

// Stream is one response. Its methods may be called concurrently; each event is written whole.
type Stream struct {
	mu     sync.Mutex
	w      http.ResponseWriter
	flush  func() error
	buf    []byte
	head   []byte // How each event of the Output under way begins.
	err    error
	final  bool
	stop   chan struct{}
	pinger sync.WaitGroup
}

// Headers sets the headers that every streamed answer has.
func Headers(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("Connection", "keep-alive")
	h.Set("X-Accel-Buffering", "no")
}

// Open starts a stream on w. The status is committed by the first event.
func Open(w http.ResponseWriter) *Stream {
	Headers(w.Header())
	return &Stream{w: w, flush: http.NewResponseController(w).Flush, stop: make(chan struct{})}
}

// Init writes the first event, which carries the id, and the first ping in one go, then keeps the stream alive with a ping each
// KeepAlive until Close.
func (s *Stream) Init(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin("init")
	s.field("text", []byte(id))
	s.end()
	s.ping()
	s.pinger.Go(s.keepAlive)
	return s.send()
}

func (s *Stream) keepAlive() {
	t := time.NewTicker(KeepAlive)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.mu.Lock()
			if !s.final {
				s.ping()
				_ = s.send() // Kept in s.err for the next writer.
			}
			s.mu.Unlock()
		}
	}
}

func (s *Stream) ping() {
	s.begin("ping")
	s.field("text", []byte("pong"))
	s.end()
}

// Output writes one event of the kind ("stdout", "stderr") per line and flushes them together. The lines keep their terminators, and share
// one timestamp.
func (s *Stream) Output(kind string, lines [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What came with one read of a pipe has one time: to take it for each line costs more than the rest of a short line.
	s.head = append(appendHead(s.head[:0], kind), `,"text":"`...)
	for _, line := range lines {
		s.buf = append(s.buf, s.head...)
		s.text(line)
		s.buf = append(s.buf, '"')
		s.end()
		if len(s.buf) >= flushAt {
			s.write()
		}
		if s.err != nil {
			return s.err
		}
	}
	return s.send()
}

// Complete writes the final event of a success. A duration under a millisecond is left out, as in OpenSandbox 1.1.1.
func (s *Stream) Complete(took time.Duration) error {
	return s.finish(func() {
		s.begin("execution_complete")
		if ms := took.Milliseconds(); ms > 0 {
			s.buf = append(s.buf, `,"execution_time":`...)
			s.buf = strconv.AppendInt(s.buf, ms, 10)
		}
		s.end()
	})
}

// Fail writes the final event of a failure.
func (s *Stream) Fail(name, value, trace string) error {
	return s.finish(func() { s.problem(name, value, []string{trace}) })
}

// finish writes the one final event; a second one is refused, so that no reader sees both a success and a failure.
func (s *Stream) finish(encode func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final {
		return ErrClosed
	}
	encode()
	s.final = true
	return s.send()
}

// Close ends the stream: later writes fail, and the response writer is not touched any more.
func (s *Stream) Close() {
	s.mu.Lock()
	if s.err == nil {
		s.err = ErrClosed
	}
	s.mu.Unlock()
	close(s.stop)
	s.pinger.Wait()
}

func (s *Stream) begin(kind string) { s.buf = appendHead(s.buf, kind) }

func appendHead(dst []byte, kind string) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, `","timestamp":`...)
	return strconv.AppendInt(dst, time.Now().UnixMilli(), 10)
}

func (s *Stream) field(name string, value []byte) {
	s.buf = append(s.buf, `,"`...)
	s.buf = append(s.buf, name...)
	s.buf = append(s.buf, `":`...)
	s.buf = appendString(s.buf, value)
}

// text appends the inside of a JSON string, in pieces when the line is long: escaping can make it six times as large, and a line of
// control bytes must not cost that much memory.
func (s *Stream) text(line []byte) {
	for len(line) > flushAt {
		n := CutText(line, flushAt)
		s.buf = appendEscaped(s.buf, line[:n])
		line = line[n:]
		s.write()
	}
	s.buf = appendEscaped(s.buf, line)
}

func (s *Stream) end() { s.buf = append(s.buf, "}\n\n"...) }

// write hands the buffered bytes to the response; after an error they are dropped.
func (s *Stream) write() {
	if s.err == nil && len(s.buf) > 0 {
		_, s.err = s.w.Write(s.buf)
	}
	s.buf = s.buf[:0]
}

func (s *Stream) send() error {
	s.write()
	if s.err == nil {
		s.err = s.flush()
	}
	return s.err
}
