package sandboxproxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
)

// pipe returns a connection of a client that was taken over, and the client's end of it.
func pipe(t *testing.T, u *upgrades, webSocket bool, early string) (c *upgraded, client net.Conn) {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	in := bufio.NewReader(bytes.NewBufferString(early))
	if early != "" {
		if _, err := in.Peek(1); err != nil {
			t.Fatal(err)
		}
	}
	return u.take(server, bufio.NewReadWriter(in, nil), webSocket, func() { _ = server.Close() }), client
}

// collect reads all that comes until the end.
func collect(from io.Reader) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(from)
		got <- b
	}()
	return got
}

// The close frame comes between two frames, never into one, and nothing comes behind it.
func TestGoingAwayWaitsForTheEndOfAFrame(t *testing.T) {
	t.Parallel()
	one, two := frame(0x81, 300, false), frame(0x81, 3, false)
	for _, cut := range []int{0, 1, 2, 3, 4, 5, 100, len(one) - 1, len(one)} {
		synctest.Test(t, func(t *testing.T) {
			var u upgrades
			c, client := pipe(t, &u, true, "")
			go func() { _, _ = c.Read(make([]byte, 1)) }()
			got := collect(client)
			if _, err := c.Write(one[:cut]); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			u.goAway()
			rest := append(bytes.Clone(one[cut:]), two...)
			if cut == 0 {
				rest = two
			}
			if n, err := c.Write(rest); n != len(rest) || err != nil {
				t.Fatalf("wrote %d of %d, %v", n, len(rest), err)
			}
			if n, err := c.Write(two); n != len(two) || err != nil {
				t.Fatalf("afterwards wrote %d of %d, %v", n, len(two), err)
			}
			_ = c.Close()
			want := append(bytes.Clone(one), goingAway...)
			if cut == 0 {
				want = goingAway
			}
			if b := <-got; !bytes.Equal(b, want) {
				t.Errorf("cut at %d: the client got %d bytes that end in % x", cut, len(b), b[max(0, len(b)-8):])
			}
		})
	}
}

func TestGoingAwayAfterTheApplicationHasClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var u upgrades
		c, client := pipe(t, &u, true, "")
		go func() { _, _ = c.Read(make([]byte, 1)) }()
		got := collect(client)
		synctest.Wait()
		closing := frame(0x88, 2, false)
		_, _ = c.Write(closing)
		u.goAway()
		_ = c.Close()
		if b := <-got; !bytes.Equal(b, closing) {
			t.Errorf("the client got % x, want one close frame", b)
		}
	})
}

// A client that does not read holds nothing up. Not in a bubble: there, time stands still while a lock is waited for.
func TestGoingAwayFromAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	var u upgrades
	c, client := pipe(t, &u, true, "")
	ended := make(chan error, 2)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	go func() {
		_, err := c.Write(frame(0x81, 300, false))
		ended <- err
	}()
	// The first byte says that the write is in progress, the other that the read has begun.
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	u.goAway()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ended with %v", err)
	}
}

// Before the first read the answer to the upgrade may not have been sent: the close frame has to wait for it.
func TestGoingAwayBeforeTheUpgradeWasAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var u upgrades
		c, client := pipe(t, &u, true, "")
		u.goAway()
		got := collect(client)
		go func() { _, _ = io.WriteString(c.Conn, "101;"); _, _ = c.Read(make([]byte, 1)) }()
		synctest.Wait()
		_ = c.Close()
		if b := <-got; string(b) != "101;"+string(goingAway) {
			t.Errorf("the client got %q", b)
		}
	})
}

func TestOtherProtocolsAreCut(t *testing.T) {
	t.Parallel()
	var u upgrades
	c, client := pipe(t, &u, false, "hello")
	buf := make([]byte, 3)
	for _, want := range []string{"hel", "lo"} { // what came before the answer is not lost
		n, err := c.Read(buf)
		if string(buf[:n]) != want || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
	got := collect(client)
	if _, err := c.Write([]byte{0x88}); err != nil {
		t.Error(err)
	}
	u.goAway()
	if b := <-got; !bytes.Equal(b, []byte{0x88}) {
		t.Errorf("the client got % x", b)
	}
	_ = c.Close()
	if len(u.present()) != 0 {
		t.Error("a closed connection is kept")
	}
}
