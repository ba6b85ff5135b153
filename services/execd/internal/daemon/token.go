package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tokenWait is how long the line may take: the agent writes it before it starts the container.
	tokenWait = 30 * time.Second
	// maxTokenLine bounds the line, in bytes.
	maxTokenLine = 64 << 10
)

// handover is the line that the agent writes to our stdin.
type handover struct {
	Token     string `json:"token"`
	OpenProxy *bool  `json:"open_proxy"`
}

// readHandover takes exactly one line from fd. It polls instead of reading in a goroutine, which could not be stopped.
func readHandover(fd int, wait time.Duration) (handover, error) {
	line, err := readLine(fd, wait)
	if err != nil {
		return handover{}, fmt.Errorf("access token from stdin: %w", err)
	}
	var h handover
	if err := json.Unmarshal(line, &h); err != nil {
		// The parser's own message may quote the line, which is secret.
		return handover{}, errors.New("access token from stdin: the line is not the expected JSON object")
	}
	if h.Token == "" {
		return handover{}, errors.New("access token from stdin: the token is empty")
	}
	return h, nil
}

func readLine(fd int, wait time.Duration) ([]byte, error) {
	deadline := time.Now().Add(wait)
	var line []byte
	var one [1]byte
	for len(line) < maxTokenLine {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, fmt.Errorf("no line came within %s", wait)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if errors.Is(err, syscall.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		// One byte at a time: what follows the line is not ours.
		n, err = syscall.Read(fd, one[:])
		switch {
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN):
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return nil, errors.New("stdin was closed before the end of the line")
		case one[0] == '\n':
			return bytes.TrimSpace(line), nil
		}
		line = append(line, one[0])
	}
	return nil, fmt.Errorf("the line is longer than %d bytes", maxTokenLine)
}

// closeStdin points fd 0 to /dev/null, so that nobody can wait for or read from the agent's pipe any more.
func closeStdin() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return unix.Dup3(int(null.Fd()), 0, 0)
}
