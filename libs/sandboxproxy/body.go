package sandboxproxy

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// discarded is how much of a body net/http reads and throws away before it answers.
const discarded = 256 << 10

// requestBody knows whether the body of a request has come to its end.
type requestBody struct {
	io.ReadCloser
	length int64
	// ended says that all of it was read, broken that the rest cannot be.
	ended, broken atomic.Bool
}

// Read implements io.Reader. After the end it says so again and does not ask: the transport looks for it once more when it has sent the body,
// and net/http has closed the body by then if the answer has begun.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.ended.Load() {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.ended.Store(true)
	case err != nil:
		b.broken.Store(true)
	}
	return n, err
}

// unread reports whether something of the body may still come.
func (b *requestBody) unread() bool { return b.length != 0 && !b.ended.Load() }

// answerEarly is called when an application answers a request whose body has not ended: what is left goes on to the application
// while the answer goes back, and then the connection ends. Without that, net/http would take the rest of the body away; and with it
// but without the end, it breaks on a body that ends only after the answer, as it then reads for the next request twice.
func (c *call) answerEarly(answer http.Header) {
	if c.in.ProtoMajor != 1 || !c.body.unread() {
		return
	}
	answer.Set("Connection", "close")
	_ = http.NewResponseController(c.out).EnableFullDuplex() // a writer that cannot do that is not a server's
}

// refuseEarly is called before an error is written: a client that may take long to send its body gets the error before that.
func (c *call) refuseEarly() {
	if c.in.ProtoMajor == 1 && c.body.unread() && (c.body.length < 0 || c.body.length > discarded) {
		c.out.Header().Set("Connection", "close")
	}
}
