package jupytertest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path"
	"strconv"

	"github.com/coder/websocket"
)

// Talk is what a kernel of a Fake says to one snippet. Unless a script calls Finish, Leave or Cut itself, Finish follows it.
type Talk struct {
	ctx     context.Context
	conn    *websocket.Conn
	kernel  *fakeKernel
	request string
	failed  bool
	over    bool
}

// Raw sends a frame as it is.
func (t *Talk) Raw(kind websocket.MessageType, data []byte) { _ = t.conn.Write(t.ctx, kind, data) }

// Message sends a message that answers the request of the id; "" is that of this talk.
func (t *Talk) Message(kind, parent string, content any) {
	t.Raw(websocket.MessageText, t.encode(kind, parent, content))
}

// Buffered sends a message as Jupyter sends those that have buffers.
func (t *Talk) Buffered(kind string, content any) {
	data := t.encode(kind, "", content)
	frame := binary.BigEndian.AppendUint32(nil, 2)
	frame = binary.BigEndian.AppendUint32(frame, 12)
	frame = binary.BigEndian.AppendUint32(frame, uint32(12+len(data)))
	frame = append(append(frame, data...), "a buffer"...)
	t.Raw(websocket.MessageBinary, frame)
}

func (t *Talk) encode(kind, parent string, content any) []byte {
	if parent == "" {
		parent = t.request
	}
	data, err := json.Marshal(map[string]any{
		"header": map[string]any{"msg_id": "m", "msg_type": kind, "version": "5.3"}, "parent_header": map[string]any{"msg_id": parent, "msg_type": "execute_request"},
		"metadata": map[string]any{}, "channel": "iopub", "content": content, "buffers": []any{},
	})
	if err != nil {
		panic(err)
	}
	return data
}

type object = map[string]any

// Print sends a part of "stdout" or "stderr".
func (t *Talk) Print(stream, text string) {
	t.Message("stream", "", object{"name": stream, "text": text})
}

// Result sends the value of the snippet.
func (t *Talk) Result(data object) {
	t.kernel.mu.Lock()
	count := t.kernel.count
	t.kernel.mu.Unlock()
	t.Message("execute_result", "", object{"execution_count": count, "data": data, "metadata": object{}})
}

// Raise sends an error of the snippet.
func (t *Talk) Raise(name, value string) {
	t.failed = true
	t.Message("error", "", t.problem(name, value))
}

func (t *Talk) problem(name, value string) object {
	return object{"ename": name, "evalue": value, "traceback": []string{"Traceback", name + ": " + value}}
}

// Status sends a state of the kernel.
func (t *Talk) Status(state string) { t.Message("status", "", object{"execution_state": state}) }

// Reply sends the reply to the request.
func (t *Talk) Reply(status string) { t.Message("execute_reply", "", object{"status": status}) }

// Finish says that the kernel is done.
func (t *Talk) Finish() {
	status := "ok"
	if t.failed {
		status = "error"
	}
	t.Reply(status)
	t.Status("idle")
	t.over = true
}

// Leave says nothing more.
func (t *Talk) Leave() { t.over = true }

// Cut ends the connection without a farewell.
func (t *Talk) Cut() {
	t.over = true
	_ = t.conn.CloseNow()
}

// Sleep waits for an interrupt, and raises what Python raises then.
func (t *Talk) Sleep() {
	select {
	case <-t.kernel.interrupt:
		t.Raise("KeyboardInterrupt", "")
	case <-t.ctx.Done():
		t.Leave()
	}
}

// snippets are those of the suite.
var snippets = map[string]func(*Talk){
	snippetValue: func(t *Talk) { t.Result(object{"text/plain": "2"}) },
	snippetStreams: func(t *Talk) {
		t.Print("stdout", "out\n")
		t.Print("stderr", "err\n")
	},
	snippetError: func(t *Talk) { t.Raise("ZeroDivisionError", "division by zero") },
	snippetSet: func(t *Talk) {
		t.kernel.mu.Lock()
		defer t.kernel.mu.Unlock()
		t.kernel.x = "41"
	},
	snippetGet: func(t *Talk) {
		t.kernel.mu.Lock()
		x, err := strconv.Atoi(t.kernel.x)
		t.kernel.mu.Unlock()
		if err != nil {
			t.Raise("NameError", "name 'x' is not defined")
			return
		}
		t.Result(object{"text/plain": strconv.Itoa(x + 1)})
	},
	snippetDisplay: func(t *Talk) {
		t.Message("display_data", "", object{"data": object{"text/plain": "shown", "text/html": "<b>shown</b>"}, "metadata": object{}})
	},
	snippetJSON: func(t *Talk) {
		t.Message("display_data", "", object{"data": object{"application/json": object{"a": 1}}})
	},
	snippetSleep: func(t *Talk) {
		t.Print("stdout", "started\n")
		t.Sleep()
	},
	snippetInput: func(t *Talk) {
		t.Raise("StdinNotImplementedError", "raw_input was called, but this frontend does not support input requests.")
	},
	snippetDie: func(t *Talk) {
		t.kernel.mu.Lock()
		t.kernel.x, t.kernel.silent = "", 2
		t.kernel.mu.Unlock()
		t.Message("status", "other", object{"execution_state": "restarting"})
		t.Leave()
	},
	snippetWhere: func(t *Talk) { t.Result(object{"text/plain": fmt.Sprintf("'/%s'", path.Dir(t.kernel.path))}) },
}
