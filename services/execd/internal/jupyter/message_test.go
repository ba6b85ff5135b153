package jupyter

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"
)

// nobody is a code.Output that counts.
type nobody struct{ calls int }

func (n *nobody) Text(string, string)             { n.calls++ }
func (n *nobody) Result(int, map[string]string)   { n.calls++ }
func (n *nobody) Display(map[string]string)       { n.calls++ }
func (n *nobody) Raised(string, string, []string) { n.calls++ }

// FuzzMessage feeds frames to a run. Whatever comes, a frame is either understood or ends the run, and has at most one effect.
func FuzzMessage(f *testing.F) {
	for _, content := range []string{
		`{"name":"stdout","text":"x"}`, `{"execution_count":1,"data":{"text/plain":"2","image/png":["a","b"],"application/json":{"a":null}}}`,
		`{"ename":"E","evalue":"v","traceback":["t"]}`, `{"execution_state":"idle"}`, `{"execution_state":"dead"}`, `{"status":"ok"}`, `{"status":"aborted"}`, `null`, `[]`,
	} {
		for _, kind := range []string{"stream", "execute_result", "display_data", "error", "status", "execute_reply", "comm_msg"} {
			frame := []byte(`{"header":{"msg_id":"a","msg_type":"` + kind + `"},"parent_header":{"msg_id":"ours"},"channel":"iopub","content":` + content + `}`)
			f.Add(frame, false)
			binaryFrame := binary.BigEndian.AppendUint32(nil, 2)
			binaryFrame = binary.BigEndian.AppendUint32(binaryFrame, 12)
			binaryFrame = binary.BigEndian.AppendUint32(binaryFrame, uint32(12+len(frame)))
			f.Add(append(append(binaryFrame, frame...), "buffer"...), true)
		}
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 8}, true)
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 8, '{', '}'}, true)
	f.Fuzz(func(t *testing.T, data []byte, isBinary bool) {
		out := &nobody{}
		e := &execution{request: "ours", out: out}
		m, err := parse(data, isBinary)
		if err == nil && m.Type == "" {
			t.Error("a message without a type was accepted")
		}
		if _, handled := e.handle(t.Context(), frame{data: data, isBinary: isBinary}); err != nil && handled == nil {
			t.Error("a frame that is no message did not end the run")
		}
		if out.calls > 1 || out.calls == 1 && m.Parent != "ours" {
			t.Errorf("%d calls for a message that answers %q", out.calls, m.Parent)
		}
	})
}

// FuzzExecuteRequest has any snippet come out again as it went in.
func FuzzExecuteRequest(f *testing.F) {
	f.Add("print('x')\n")
	f.Add("\u2028\x00</script>")
	f.Fuzz(func(t *testing.T, snippet string) {
		if !utf8.ValidString(snippet) {
			return // JSON from a client has no such strings.
		}
		data, err := executeRequest("id", "session", snippet, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(data, false)
		var c struct {
			Code       string `json:"code"`
			AllowStdin *bool  `json:"allow_stdin"`
		}
		if err != nil || json.Unmarshal(m.Content, &c) != nil || c.Code != snippet ||
			m.ID != "id" || m.Type != "execute_request" || m.Channel != "shell" || c.AllowStdin == nil || *c.AllowStdin {
			t.Errorf("%q became %+v %+v, %v", snippet, m, c, err)
		}
	})
}

func TestChooseKernel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		specs, language, want string
	}{
		{`{"python3":"python","python":"python","a":"python"}`, "python", "python"},
		{`{"python3":"python","z":"python","a":"python"}`, "python", "a"},
		{`{"python3":"python"}`, "python", "python3"},
		{`{"python3":"python","tslab":"typescript","jslab":"javascript"}`, "typescript", "tslab"},
		{`{"python3":"python"}`, "go", ""},
		{`{}`, "go", ""},
	} {
		var languages map[string]string
		if err := json.Unmarshal([]byte(tt.specs), &languages); err != nil {
			t.Fatal(err)
		}
		var k kernelSpecs
		wire := map[string]any{}
		for name, l := range languages {
			wire[name] = map[string]any{"spec": map[string]any{"language": l}}
		}
		data, err := json.Marshal(map[string]any{"kernelspecs": wire})
		if err != nil || json.Unmarshal(data, &k) != nil {
			t.Fatal(err)
		}
		if got, err := k.choose(tt.language); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s in %s: got %q, %v, want %q", tt.language, tt.specs, got, err, tt.want)
		}
	}
}
