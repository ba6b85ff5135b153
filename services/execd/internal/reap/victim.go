package reap

import (
	"bytes"
	"os"
	"strconv"
)

// What is added to the score of a child when memory runs out and the kernel chooses whom to kill, in thousandths of all the memory that the sandbox
// may have. Without it the largest goes first, and among hundreds of small processes that is this one, with which the sandbox ends. It also ends with the entry
// point, which is to live longer than commands. Only a sandbox that is very small lets this program have as much as that.
const (
	commandFirst    = 500
	entryPointFirst = 250
	mostScore       = 1000 // The most that the kernel takes (proc(5)).
)

// ownScore is the score that the engine has given to this process. A kernel that does not tell it takes none of children either.
func ownScore() int {
	text, _ := os.ReadFile("/proc/self/oom_score_adj")
	score, _ := strconv.Atoi(string(bytes.TrimSpace(text)))
	return score
}

// volunteer lets the kernel kill the process, and what that will start, before this one. It may always be made a better victim; where the kernel
// refuses even so, or the process has ended, everything stays as it is. The caller holds r.mu, so that the number is still that of the child.
func (r *Reaper) volunteer(pid, more int) {
	f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteString(strconv.Itoa(min(r.score+more, mostScore)))
	_ = f.Close()
}
