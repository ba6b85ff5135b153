package jupyter

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// protocolVersion is that of the messages which we send; kernels of later versions understand them.
const protocolVersion = "5.3"

// message is one of Jupyter's messages, as far as it is used. Parent is the request that it answers.
type message struct {
	ID      string
	Type    string
	Parent  string
	Channel string
	Content json.RawMessage
}

// wireMessage is a message on the WebSocket.
type wireMessage struct {
	Header  header          `json:"header"`
	Parent  header          `json:"parent_header"`
	Channel string          `json:"channel"`
	Content json.RawMessage `json:"content"`
}

type header struct {
	ID   string `json:"msg_id"`
	Type string `json:"msg_type"`
}

// parse reads a frame. A binary one has buffers behind the message: their number and all offsets come first, each as 32 bits in network
// order, the first offset being that of the message itself.
func parse(frame []byte, isBinary bool) (message, error) {
	if isBinary {
		var err error
		if frame, err = withoutBuffers(frame); err != nil {
			return message{}, err
		}
	}
	var w wireMessage
	if err := json.Unmarshal(frame, &w); err != nil {
		return message{}, fmt.Errorf("message: %w", err)
	}
	if w.Header.Type == "" {
		return message{}, errors.New("message without a type")
	}
	return message{ID: w.Header.ID, Type: w.Header.Type, Parent: w.Parent.ID, Channel: w.Channel, Content: w.Content}, nil
}

func withoutBuffers(frame []byte) ([]byte, error) {
	const word = 4
	if len(frame) < 2*word {
		return nil, errors.New("binary message: too short")
	}
	count := uint64(binary.BigEndian.Uint32(frame))
	start, end := uint64(binary.BigEndian.Uint32(frame[word:])), uint64(len(frame))
	if count > 1 && len(frame) >= 3*word {
		end = uint64(binary.BigEndian.Uint32(frame[2*word:]))
	}
	if count < 1 || start < (count+1)*word || start > end || end > uint64(len(frame)) {
		return nil, errors.New("binary message: its offsets lead outside of it")
	}
	return frame[start:end], nil
}

// executeRequest returns the message that runs a snippet. Input is refused: nobody is there to type. An error does not stop what waits: that
// is the next run, after one whose connection was lost.
func executeRequest(id, session, snippet string, now time.Time) ([]byte, error) {
	return request("execute_request", id, session, now, map[string]any{
		"code": snippet, "silent": false, "store_history": true, "user_expressions": struct{}{}, "allow_stdin": false, "stop_on_error": false,
	})
}

// infoRequest returns the message that asks a kernel what it is.
func infoRequest(id, session string, now time.Time) ([]byte, error) {
	return request("kernel_info_request", id, session, now, struct{}{})
}

func request(kind, id, session string, now time.Time, content any) ([]byte, error) {
	return json.Marshal(map[string]any{
		"header": map[string]string{
			"msg_id": id, "msg_type": kind, "username": "execd", "session": session,
			"date": now.UTC().Format(time.RFC3339Nano), "version": protocolVersion,
		},
		"parent_header": struct{}{},
		"metadata":      struct{}{},
		"channel":       "shell",
		"buffers":       []string{},
		"content":       content,
	})
}

// content reads what a message says.
func (m message) content(v any) error {
	if err := json.Unmarshal(m.Content, v); err != nil {
		return fmt.Errorf("%s: %w", m.Type, err)
	}
	return nil
}
