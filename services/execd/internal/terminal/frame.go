package terminal

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"syscall"
)

// The first byte of a binary frame says what it carries, as in OpenSandbox 1.1.1.
const (
	// FrameInput comes from the client: bytes for the terminal.
	FrameInput byte = 0
	// FrameOutput is live output; in pipe mode standard output only.
	FrameOutput byte = 1
	// FrameError is live standard error in pipe mode.
	FrameError byte = 2
	// FrameReplay is output with its place: 8 bytes, big-endian, with the offset of the first byte since the session began.
	FrameReplay byte = 3
)

// Frame is output on its way to a client.
type Frame struct {
	Kind byte
	// Offset counts from the beginning of the session. Only a replay tells it to the client.
	Offset int64
	Data   []byte
}

// Encode returns the frame as it is on the wire.
func (f Frame) Encode() []byte {
	b := make([]byte, 0, 9+len(f.Data))
	b = append(b, f.Kind)
	if f.Kind == FrameReplay {
		b = binary.BigEndian.AppendUint64(b, uint64(f.Offset))
	}
	return append(b, f.Data...)
}

// Request is what a frame of a client asks for.
type Request int

// The requests of clients. Nothing is asked by a frame that OpenSandbox 1.1.1 ignores.
const (
	Nothing Request = iota
	Unknown
	Input
	Resize
	Signal
	Ping
)

// Message is a frame of a client.
type Message struct {
	Request Request
	// Type is the word of an Unknown request.
	Type string
	// Data is what an Input brings.
	Data []byte
	// Cols and Rows are those of a Resize, at least 1.
	Cols, Rows uint16
	Signal     syscall.Signal
}

// signals are those that a client may send.
var signals = map[string]syscall.Signal{
	"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL, "SIGQUIT": syscall.SIGQUIT, "SIGHUP": syscall.SIGHUP,
}

// ParseBinary reads a binary frame.
func ParseBinary(b []byte) Message {
	if len(b) < 2 || b[0] != FrameInput {
		return Message{}
	}
	return Message{Request: Input, Data: b[1:]}
}

// ParseText reads a text frame: a JSON object with a type. What is no such object is ignored.
func ParseText(b []byte) Message {
	var in struct {
		Type   string `json:"type"`
		Data   string `json:"data"`
		Signal string `json:"signal"`
		Cols   int64  `json:"cols"`
		Rows   int64  `json:"rows"`
	}
	if json.Unmarshal(b, &in) != nil {
		return Message{}
	}
	switch in.Type {
	case "stdin":
		if in.Data != "" {
			return Message{Request: Input, Data: []byte(in.Data)}
		}
	case "resize":
		if in.Cols > 0 && in.Rows > 0 {
			return Message{Request: Resize, Cols: uint16(min(in.Cols, math.MaxUint16)), Rows: uint16(min(in.Rows, math.MaxUint16))}
		}
	case "signal":
		if sig, ok := signals[in.Signal]; ok {
			return Message{Request: Signal, Signal: sig}
		}
	case "ping":
		return Message{Request: Ping}
	default:
		return Message{Request: Unknown, Type: in.Type}
	}
	return Message{}
}
