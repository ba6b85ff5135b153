package sandboxproxy_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"opensandbox/libs/plainhttp"
	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/target"
)

// BenchmarkPlain forwards requests for a kilobyte, one after the other on one connection. Its figures have the application's and the client's
// part in them.
func BenchmarkPlain(b *testing.B) {
	kilobyte := strings.Repeat("x", 1<<10)
	answer := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" + kilobyte
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer app.Close()
	go func() { // ends with the listener, and with the proxy's connections
		for {
			c, err := app.Accept()
			if err != nil {
				return
			}
			go respond(c, answer)
		}
	}()
	p := sandboxproxy.New(sandboxproxy.Config{Dialect: sandboxproxy.Gateway()}, sandboxproxy.Deps{
		Mode: target.URI{}, Resolver: at(direct(&httptest.Server{Listener: app})), Log: slog.New(slog.DiscardHandler),
	})
	defer p.Close()
	front := httptest.NewUnstartedServer(p)
	plain := plainhttp.New(front.Listener, front.Config)
	front.Listener = plain
	front.Start()
	defer front.Close()
	defer plain.Cut()
	c, err := net.Dial("tcp", strings.TrimPrefix(front.URL, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(c, "GET /sb/8/x HTTP/1.1\r\nHost: h\r\nUser-Agent: bench\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := in.Discard(len(kilobyte)); err != nil {
			b.Fatal(err)
		}
	}
}

// respond gives the same answer to each request.
func respond(c net.Conn, answer string) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}
