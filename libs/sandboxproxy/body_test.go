package sandboxproxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// closable is a body as net/http has it: once it is closed, it cannot even be asked for its end.
type closable struct {
	io.Reader
	closed bool
}

func (c *closable) Read(p []byte) (int, error) {
	if c.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return c.Reader.Read(p)
}

func (c *closable) Close() error {
	c.closed = true
	return nil
}

// The transport looks once more for the end of a body that it has sent. An answer may have begun by then, at which net/http closes the body;
// an error would make the transport break the connection off, and the answer with it.
func TestTheEndOfABodyStaysItsEnd(t *testing.T) {
	t.Parallel()
	inner := &closable{Reader: strings.NewReader("all")}
	b := &requestBody{ReadCloser: inner, length: 3}
	if got, err := io.ReadAll(b); string(got) != "all" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := inner.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d, %v", n, err)
	}
	if b.broken.Load() || b.unread() {
		t.Errorf("broken %v, unread %v", b.broken.Load(), b.unread())
	}
}

func TestABodyThatIsClosedBeforeItsEndIsBroken(t *testing.T) {
	t.Parallel()
	inner := &closable{Reader: strings.NewReader("all"), closed: true}
	b := &requestBody{ReadCloser: inner, length: 3}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) || !b.broken.Load() || !b.unread() {
		t.Errorf("%v, broken %v, unread %v", err, b.broken.Load(), b.unread())
	}
}
