package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shot is one request of a load.
type shot struct {
	method, path, body string
	// header is more of them, each with its line end.
	header string
	// want is the status of success, 200 if it is 0.
	want int
}

func get(path string) shot { return shot{method: "GET", path: path} }

// hammer sends requests over keep-alive connections. The client is part of the load on this machine.
func hammer(ctx context.Context, base string, connections int, length time.Duration, next func(int) shot) (samples []float64, rate float64, failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	began := time.Now()
	for c := range connections {
		wg.Go(func() {
			mine, bad := oneConnection(ctx, base, c, next)
			mu.Lock()
			defer mu.Unlock()
			samples, failed = append(samples, mine...), failed+bad
		})
	}
	wg.Wait()
	return samples, float64(len(samples)) / time.Since(began).Seconds(), failed
}

// oneConnection speaks HTTP by hand: a full client would cost as much as the server that it measures.
func oneConnection(ctx context.Context, base string, c int, next func(int) shot) (samples []float64, failed int) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		return nil, 1
	}
	defer conn.Close()
	buf := make([]byte, 128<<10)
	for i := c * 100_003; ctx.Err() == nil; i++ {
		s := next(i)
		began := time.Now()
		if err := s.send(conn); err != nil {
			return samples, failed + 1
		}
		n, err := readAnswer(conn, buf)
		samples = append(samples, ms(time.Since(began)))
		want := s.want
		if want == 0 {
			want = 200
		}
		if err != nil || !bytes.HasPrefix(buf[:n], fmt.Appendf(nil, "HTTP/1.1 %d", want)) {
			failed++
			if err != nil {
				return samples, failed
			}
		}
	}
	return samples, failed
}

func (s shot) send(conn net.Conn) error {
	body := ""
	if s.body != "" {
		body = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(s.body))
	}
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: bench\r\nOPEN-SANDBOX-API-KEY: %s\r\n%s%s\r\n%s", s.method, s.path, apiKey, s.header, body, s.body)
	return err
}

// readAnswer reads one answer with a Content-Length.
func readAnswer(conn net.Conn, buf []byte) (int, error) {
	n := 0
	for {
		k, err := conn.Read(buf[n:])
		if err != nil {
			return n, err
		}
		n += k
		head := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if head < 0 {
			continue
		}
		i := bytes.Index(bytes.ToLower(buf[:head]), []byte("content-length: "))
		if i < 0 {
			return n, fmt.Errorf("no Content-Length")
		}
		line, _, _ := bytes.Cut(buf[i+len("Content-Length: "):head+2], []byte("\r\n"))
		length, err := strconv.Atoi(string(line))
		if err != nil {
			return n, err
		}
		if n >= head+4+length {
			return n, nil
		}
	}
}
