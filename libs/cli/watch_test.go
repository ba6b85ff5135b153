package cli

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchTakesNoEchoForASecondSignal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		signals, done := make(chan os.Signal, 2), make(chan struct{})
		cancelled, codes := 0, []int{}
		go watch(signals, done, func() { cancelled++ }, func(code int) { codes = append(codes, code) })
		signals <- syscall.SIGTERM
		synctest.Wait()
		signals <- syscall.SIGTERM
		synctest.Wait()
		if cancelled != 1 || len(codes) != 0 {
			t.Errorf("after the echo: cancelled %d times, exits %v", cancelled, codes)
		}
		time.Sleep(echo + time.Millisecond)
		signals <- syscall.SIGINT
		synctest.Wait()
		if len(codes) != 1 || codes[0] != 130 {
			t.Errorf("exits %v, want [130]", codes)
		}
		close(done)
	})
}
