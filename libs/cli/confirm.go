package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"opensandbox/libs/settings"
)

// confirmTimeout is how long a question waits for its answer, in OpenSandbox 1.1.1.
const confirmTimeout = 30 * time.Second

// confirm asks whoever sits at the terminal whether to serve without a key. Only YES is a yes.
func (c command) confirm(ctx context.Context, why settings.NoKeyError) bool {
	fmt.Fprintf(c.Stderr, "\x1b[31m%s: %v\nType YES within %s to start all the same: \x1b[0m", c.Process, why, confirmTimeout)
	answer := make(chan string, 1)
	// Nothing interrupts a read from a terminal: without an answer it ends with the process, which is what comes next.
	go func() {
		line, _ := bufio.NewReader(c.Stdin).ReadString('\n') // what came before an error is the answer
		answer <- strings.TrimSpace(line)
	}()
	timeout := time.NewTimer(confirmTimeout)
	defer timeout.Stop()
	select {
	case got := <-answer:
		return got == "YES"
	case <-timeout.C:
		fmt.Fprintln(c.Stderr, "no answer")
	case <-ctx.Done():
		fmt.Fprintln(c.Stderr)
	}
	return false
}
