package sse

import (
	"maps"
	"slices"
	"strconv"
)

// The events of this file are those of code in kernels. They write what they can and keep errors for the next writer.

// Raised writes what an error of the code looks like in OpenSandbox 1.1.1: a status event, and the error, which is not the final event.
func (s *Stream) Raised(name, value string, trace []string) {
	s.event(func() {
		s.begin("status")
		s.field("text", []byte("error"))
		s.end()
		s.problem(name, value, trace)
	})
}

// Values writes an event of the kind ("result", "display") with values by MIME type. A count above 0 becomes an event before it.
func (s *Stream) Values(kind string, count int, values map[string]string) {
	s.event(func() {
		if count > 0 {
			s.begin("execution_count")
			s.buf = append(s.buf, `,"execution_count":`...)
			s.buf = strconv.AppendInt(s.buf, int64(count), 10)
			s.end()
		}
		s.begin(kind)
		s.buf = append(s.buf, `,"results":{`...)
		for i, k := range slices.Sorted(maps.Keys(values)) {
			if i > 0 {
				s.buf = append(s.buf, ',')
			}
			s.buf = append(appendString(s.buf, []byte(k)), ':')
			s.buf = appendString(s.buf, []byte(values[k]))
		}
		s.buf = append(s.buf, '}')
		s.end()
	})
}

// event writes what encode appends, unless the stream has had its final event.
func (s *Stream) event(encode func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final || s.err != nil {
		return
	}
	encode()
	_ = s.send() // Kept in s.err.
}

// problem appends an error event.
func (s *Stream) problem(name, value string, trace []string) {
	s.begin("error")
	s.buf = append(s.buf, `,"error":{"ename":`...)
	s.buf = appendString(s.buf, []byte(name))
	s.field("evalue", []byte(value))
	s.buf = append(s.buf, `,"traceback":[`...)
	for i, line := range trace {
		if i > 0 {
			s.buf = append(s.buf, ',')
		}
		s.buf = appendString(s.buf, []byte(line))
	}
	s.buf = append(s.buf, "]}"...)
	s.end()
}
