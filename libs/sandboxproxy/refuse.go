package sandboxproxy

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// Close codes of WebSockets that cannot be forwarded (RFC 6455, section 7.4.1), those of OpenSandbox 1.1.1.
const (
	closePolicy   = 1008 // the application does not want it
	closeInternal = 1011 // the application cannot be reached
)

// maxReason bounds the text of a close frame (RFC 6455, section 5.5).
const maxReason = 123

// notUpgraded is the answer of an application that refuses a WebSocket.
type notUpgraded struct{ status int }

func (e notUpgraded) Error() string {
	return "the application answered the handshake with " + http.StatusText(e.status)
}

// closeWebSocket accepts a WebSocket and closes it at once. It reports false if it has done nothing, because the request is no handshake
// that can be accepted.
func closeWebSocket(w http.ResponseWriter, r *http.Request, code int, reason string) bool {
	key := r.Header.Values("Sec-Websocket-Key")
	if r.ProtoMajor != 1 || r.Method != http.MethodGet || len(key) != 1 || !is16Bytes(key[0]) {
		return false
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(farewellTime))
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptOf(key[0]) + "\r\n"
	if id := w.Header().Get(requestID); id != "" {
		answer += requestID + ": " + id + "\r\n"
	}
	if first, _, _ := strings.Cut(r.Header.Get("Sec-Websocket-Protocol"), ","); isToken(strings.TrimSpace(first)) {
		answer += "Sec-WebSocket-Protocol: " + strings.TrimSpace(first) + "\r\n" // browsers fail a socket without one that they asked for
	}
	frame := closeFrame(code, reason)
	if _, err := conn.Write(append([]byte(answer+"\r\n"), frame...)); err == nil {
		awaitClose(conn, rw.Reader)
	}
	return true
}

// awaitClose reads until the client has answered the close frame, or a while has passed: a connection that is closed with unread bytes
// may take the frame from the client.
func awaitClose(conn net.Conn, r *bufio.Reader) {
	var f frames
	buffer := make([]byte, 1024)
	for !f.closed {
		n, err := r.Read(buffer)
		f.pass(buffer[:n])
		if err != nil {
			return
		}
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		_, _ = io.Copy(io.Discard, io.LimitReader(r, maxAnswerHeader))
	}
}

func closeFrame(code int, reason string) []byte {
	for len(reason) > maxReason || !utf8.ValidString(reason) {
		reason = reason[:min(len(reason)-1, maxReason)]
	}
	return append([]byte{0x80 | opClose, byte(2 + len(reason)), byte(code >> 8), byte(code)}, reason...)
}

func is16Bytes(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// acceptOf is the answer to a key (RFC 6455, section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it
	return base64.StdEncoding.EncodeToString(sum[:])
}

// isToken reports whether s may be a name in a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
