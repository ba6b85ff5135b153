package sse

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEventsOfCode(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	s := Open(rec)
	s.Values("result", 3, map[string]string{"text/plain": "2", "text": "2", "a\u0085": "<>"})
	s.Values("display", 0, nil)
	s.Raised("E", "v", []string{"one", "two"})
	s.Raised("E", "", nil)
	if err := s.Complete(5 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	s.Raised("late", "", nil)
	s.Values("result", 1, nil)
	s.Close()
	want := `{"type":"execution_count","timestamp":0,"execution_count":3}` + "\n\n" +
		`{"type":"result","timestamp":0,"results":{"a\u0085":"\u003c\u003e","text":"2","text/plain":"2"}}` + "\n\n" +
		`{"type":"display","timestamp":0,"results":{}}` + "\n\n" +
		`{"type":"status","timestamp":0,"text":"error"}` + "\n\n" +
		`{"type":"error","timestamp":0,"error":{"ename":"E","evalue":"v","traceback":["one","two"]}}` + "\n\n" +
		`{"type":"status","timestamp":0,"text":"error"}` + "\n\n" +
		`{"type":"error","timestamp":0,"error":{"ename":"E","evalue":"","traceback":[]}}` + "\n\n" +
		`{"type":"execution_complete","timestamp":0,"execution_time":5}` + "\n\n"
	if d := cmp.Diff(want, stamp.ReplaceAllString(rec.Body.String(), `"timestamp":0`)); d != "" {
		t.Errorf("stream (-want +got):\n%s", d)
	}
}
