package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"opensandbox/services/execd/internal/environ"
)

// The variables of OpenSandbox 1.1.1 that say where log lines go.
const (
	logFileVariable   = "EXECD_LOG_FILE"
	logOutputVariable = "OPENSANDBOX_LOG_OUTPUT"
)

const (
	// maxLogFile and oldLogFiles are when a log file is put aside, in bytes, and how many of those are kept, as in OpenSandbox 1.1.1.
	maxLogFile  = 100 << 20
	oldLogFiles = 10
)

// logOutputs returns the places for log lines: "stdout", "stderr" and paths of files. EXECD_LOG_FILE is one path and decides alone.
func logOutputs(lookup environ.Lookup) ([]string, error) {
	if path, _ := lookup(logFileVariable); path != "" {
		return []string{path}, nil
	}
	list, _ := lookup(logOutputVariable)
	var out []string
	for item := range strings.SplitSeq(list, ",") {
		switch item = strings.TrimSpace(item); {
		case item == "":
		case item == "stdout", item == "stderr", strings.Contains(item, "/"):
			out = append(out, item)
		default:
			return nil, fmt.Errorf("%s: %q is neither stdout nor stderr nor a path; a file in the working directory is ./%s", logOutputVariable, item, item)
		}
	}
	return out, nil
}

func newLogger(o options, out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: o.logLevel}))
}

// logs are the places that each line goes to. The handler calls Write for one line at a time.
type logs struct {
	places []io.Writer
	files  []*logFile
}

// openLogs opens the places for log lines; without any they go to stderr. So they do, with a word about it, when a file cannot be
// opened: no sandbox is refused for the sake of its log.
func openLogs(o options, stdout, stderr io.Writer) *logs {
	l := &logs{}
	for _, name := range o.logOutputs {
		switch name {
		case "stdout":
			l.places = append(l.places, prefixed{stdout})
		case "stderr":
			l.places = append(l.places, prefixed{stderr})
		default:
			f, err := openLogFile(name, maxLogFile)
			if err != nil {
				fmt.Fprintln(prefixed{stderr}, "the log file cannot be used:", err)
				continue
			}
			l.files, l.places = append(l.files, f), append(l.places, f)
		}
	}
	if len(l.places) == 0 {
		l.places = []io.Writer{prefixed{stderr}}
	}
	return l
}

// Write implements io.Writer. A place that fails does not keep the line from the others.
func (l *logs) Write(line []byte) (int, error) {
	var errs []error
	for _, w := range l.places {
		if _, err := w.Write(line); err != nil {
			errs = append(errs, err)
		}
	}
	return len(line), errors.Join(errs...)
}

func (l *logs) close() {
	for _, f := range l.files {
		f.file.Close()
	}
}

// logFile is a log file of bounded size: full, it becomes path.1, what was path.1 becomes path.2, and path.10 is removed.
type logFile struct {
	path string
	max  int64 // Bytes.
	file *os.File
	size int64
}

func openLogFile(path string, max int64) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l := &logFile{path: path, max: max}
	return l, l.open()
}

// open opens the file behind what earlier daemons have written. Only execd's user may read it: commands are in it.
func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, st.Size()
	return nil
}

// Write implements io.Writer.
func (l *logFile) Write(line []byte) (int, error) {
	if l.size > 0 && l.size+int64(len(line)) > l.max {
		l.rotate()
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return n, err
}

// rotate puts the file aside. What fails changes nothing: the file goes on for as much again, because a log that is too long is better than none.
func (l *logFile) rotate() {
	for i := oldLogFiles; i > 1; i-- {
		_ = os.Rename(l.path+"."+strconv.Itoa(i-1), l.path+"."+strconv.Itoa(i)) // There may be fewer.
	}
	_ = os.Rename(l.path, l.path+".1")
	old := l.file
	if err := l.open(); err == nil {
		old.Close()
	}
	l.size = 0
}

// prefixed marks our lines: stdout and stderr belong to the user's entry point.
type prefixed struct{ w io.Writer }

// Write implements io.Writer; it is called once per line.
func (p prefixed) Write(b []byte) (int, error) {
	_, err := p.w.Write(append([]byte("opensandbox-execd: "), b...))
	return len(b), err
}
