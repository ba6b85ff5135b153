//go:build e2e

package acceptance

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The groups of the published command line that talk to the daemon, each with all of its commands, options and forms of output: at different
// places, some directly and some through the server.
func TestPublishedCLIGroups(t *testing.T) {
	t.Parallel()
	through := map[string]bool{"busybox as root": true, "Debian as a user without an account": false, "no shell as a user": true}
	s, all := places(t, slices.Collect(maps.Keys(through))...)
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			proxied := through[p.name]
			o := s.withOSB(t, proxied)
			commandGroup(o, p)
			sessionGroup(o, p)
			fileGroup(o, p)
			o.went(p.id, proxied)
		})
	}
}

func commandGroup(o *osbRunner, p place) {
	o.t.Helper()
	run := func(more ...string) []string { return append([]string{"command", "run", p.id}, more...) }
	o.fails(2, "Missing argument", run()...)
	o.fails(1, "cwd", run("-w", "/no/such", "--argv", "--", onlyProgram)...)
	o.fails(1, "executable file not found", run("--argv", "--", "no-such-program")...)
	o.fails(1, "not found", "command", "status", p.id, "no-such-command")
	o.fails(1, "no-such-command", "command", "logs", p.id, "no-such-command")
	o.fails(1, "no-such-command", "command", "interrupt", p.id, "no-such-command")
	if !p.shell {
		o.fails(1, "no shell", run("--", "true")...)
		o.prints(" /\n", run("--argv", "--", onlyProgram, "tell")...)
		inBackground(o, p, []string{"--argv", "--", onlyProgram, "hold"}, "static-app holds\n")
		return
	}
	o.exactly("hello from osb\n", run("--", "echo", "hello from osb")...)
	o.exactly("no end of line\n", run("--", "printf", "no end of line")...)
	o.exactly("a\n\nb\n", run("--", "printf", `a\n\nb`)...)
	o.exactly("$HOME|\n", run("--argv", "-o", "raw", "--", "printf", "%s|", "$HOME")...)
	o.exactly("/tmp\n", run("-w", "/tmp", "-t", "1m", "--", "pwd")...)
	if out := o.fails(1, "CommandExecError: 3", run("--", "sh", "-c", "echo before; echo why >&2; exit 3")...); out != "before\n" {
		o.t.Errorf("before it failed a command printed %q", out)
	}
	o.fails(1, "CommandExecError: -1", run("-t", "1s", "--", "sleep", "300")...)
	o.fails(1, "CommandExecError: 127", run("--", "no-such-program")...)
	inBackground(o, p, []string{"--", "sh", "-c", "echo one; echo two; exec sleep 3600"}, "one\ntwo\n")
}

// inBackground follows a command in the background that prints something and then waits.
func inBackground(o *osbRunner, p place, command []string, prints string) {
	o.t.Helper()
	started := func(format string) string {
		run := append([]string{"command", "run", p.id, "-d", "-o", format}, command...)
		if format == "json" {
			var v struct {
				ID   string `json:"execution_id"`
				Of   string `json:"sandbox_id"`
				Mode string
			}
			o.decoded(&v, run...)
			if v.ID == "" || v.Of != p.id || v.Mode != "background" {
				o.t.Fatalf("osb %q: %+v", run, v)
			}
			return v.ID
		}
		_, id, _ := strings.Cut(o.prints("execution_id: ", run...), "execution_id: ")
		id, _, _ = strings.Cut(id, "\n")
		return id
	}
	id := started("json")
	var status struct {
		ID      string
		Content string
		Running bool
		Exit    *int   `json:"exit_code"`
		Ended   string `json:"finished_at"`
	}
	o.decoded(&status, "command", "status", p.id, id, "-o", "json")
	if status.ID != id || status.Content == "" || !status.Running || status.Exit != nil || status.Ended != "" {
		o.t.Errorf("status while it runs: %+v", status)
	}
	logs := func(more ...string) []string { return append([]string{"command", "logs", p.id, id}, more...) }
	daemon{t: o.t}.until("a command in the background prints", func() bool { return o.try("", logs("-o", "raw")...).Out == prints+"\n" })
	var read struct {
		Content string
		Cursor  int
	}
	o.decoded(&read, logs("-o", "json", "--cursor", "4")...)
	if read.Content != prints[4:] || read.Cursor != len(prints) {
		o.t.Errorf("logs from the fourth byte: %+v", read)
	}
	o.prints("cursor: ", logs("-o", "yaml")...)
	o.prints("Command Logs", logs()...)
	o.prints(`"Interrupted: `+id, "command", "interrupt", p.id, id, "-o", "json")
	daemon{t: o.t}.until("an interrupted command ends", func() bool {
		return strings.Contains(o.prints("running: ", "command", "status", p.id, id, "-o", "yaml"), "running: false")
	})
	o.prints("False", "command", "status", p.id, id)
	for _, format := range []string{"yaml", "table"} {
		o.prints("Interrupted: ", "command", "interrupt", p.id, started(format), "-o", "table")
	}
}

func sessionGroup(o *osbRunner, p place) {
	o.t.Helper()
	create := func(more ...string) []string { return append([]string{"command", "session", "create", p.id}, more...) }
	if !p.shell {
		o.fails(1, "no shell", create()...)
		return
	}
	var made struct {
		ID  string `json:"session_id"`
		Of  string `json:"sandbox_id"`
		Dir string `json:"working_directory"`
	}
	o.decoded(&made, create("-w", p.dir+"/session", "-o", "json")...)
	if made.ID == "" || made.Of != p.id || made.Dir != p.dir+"/session" {
		o.t.Fatalf("session: %+v", made)
	}
	run := func(more ...string) []string {
		return append([]string{"command", "session", "run", p.id, made.ID}, more...)
	}
	o.exactly(p.dir+"/session\n", run("--", "pwd")...)
	o.exactly("", run("--", "export", "A=b c")...)
	o.exactly("b c\n", run("-o", "raw", "--", "sh", "-c", "echo $A")...)
	o.exactly("/\n", run("-w", "/", "-t", "1m", "--", "pwd")...)
	o.exactly("/\n", run("--", "pwd")...)
	if out := o.fails(1, "CommandExecError: 3", run("--", "sh", "-c", "echo before; exit 3")...); out != "before\n" {
		o.t.Errorf("before it failed a run printed %q", out)
	}
	o.fails(1, "TimeoutError", run("-t", "1s", "--", "sleep", "300")...)
	o.fails(1, "cwd", run("-w", "/no/such", "--", "true")...)
	o.fails(2, "Missing argument", run()...)
	o.prints(`"Deleted session: `+made.ID, "command", "session", "delete", p.id, made.ID, "-o", "json")
	o.fails(1, "not found", "command", "session", "delete", p.id, made.ID)
	o.fails(1, "not found", run("--", "true")...)
	for _, format := range []string{"yaml", "table"} {
		_, id, _ := strings.Cut(o.prints("session_id: ", create("-o", format)...), "session_id: ")
		id, _, _ = strings.Cut(id, "\n")
		o.prints("Deleted session", "command", "session", "delete", p.id, id, "-o", format)
	}
}

func fileGroup(o *osbRunner, p place) {
	o.t.Helper()
	file := func(command string, more ...string) []string { return append([]string{"file", command, p.id}, more...) }
	at := func(name string) string { return p.dir + "/file group/" + name }
	up, down := filepath.Join(o.t.TempDir(), "up"), filepath.Join(o.t.TempDir(), "new", "down")
	content := "\x00\xff\r\n" + strings.Repeat("from the host\n", 20_000)
	if err := os.WriteFile(up, []byte(content), 0o600); err != nil {
		o.t.Fatal(err)
	}
	own := []string{"--mode", "640"}
	if name := p.names(); name == "root" || name == "nobody" {
		own = append(own, "--owner", p.names())
	}
	o.prints("Written: ", file("write", append([]string{at("a.txt"), "-c", "content"}, own...)...)...)
	o.exactly("content", file("cat", at("a.txt"))...)
	if run := o.try("from standard input\n", file("write", at("in.txt"), "-o", "json")...); run.Status != 0 || !strings.Contains(run.Out, `"ok"`) {
		o.t.Errorf("write from standard input: %+v", run)
	}
	o.exactly("from standard input\n", file("cat", at("in.txt"), "-o", "raw")...)
	o.prints("Written", file("write", at("latin"), "-c", "é", "--encoding", "latin-1", "-o", "yaml")...)
	o.exactly("é", file("cat", at("latin"), "--encoding", "latin-1")...)
	o.prints("Uploaded: ", file("upload", up, at("up"))...)
	o.prints("Downloaded: ", file("download", at("up"), down)...)
	if got, err := os.ReadFile(down); err != nil || string(got) != content {
		o.t.Errorf("downloaded %d bytes, %v; want the %d that were uploaded", len(got), err, len(content))
	}
	o.exactly("content", file("download", at("a.txt"), "/dev/stdout")...)
	for _, c := range [][]string{file("cat", at("none")), file("info", at("none")), file("info", at("a.txt"), at("none")),
		file("mv", at("none"), at("x")), file("replace", at("none"), "--old", "a", "--new", "b"), file("search", at("none"), "-p", "*")} {
		o.fails(1, "FILE_NOT_FOUND", c...)
	}
	o.fails(1, "404", file("download", at("none"), down)...)
	info(o, p, file, at, len(content))
	changes(o, file, at)
}

// entry is a file or directory as osb shows it.
type entry struct {
	Path, Owner, Group string
	Mode, Size         int
	Created            string `json:"created_at"`
	Modified           string `json:"modified_at"`
}

func info(o *osbRunner, p place, file func(string, ...string) []string, at func(string) string, size int) {
	o.t.Helper()
	var entries []entry
	o.decoded(&entries, file("info", at("a.txt"), at("up"), at(""), "-o", "json")...)
	if len(entries) != 3 {
		o.t.Fatalf("info: %+v", entries)
	}
	for _, e := range entries {
		want := map[string]entry{p.dir + "/file group": {Mode: 755, Size: e.Size}, at("a.txt"): {Mode: 640, Size: 7}, at("up"): {Mode: 755, Size: size}}[e.Path]
		if e.Mode != want.Mode || e.Size != want.Size || e.Owner != p.names() || e.Group == "" || e.Modified == "" || e.Created == "" {
			o.t.Errorf("info: %+v, want %+v of %s", e, want, p.names())
		}
	}
	o.prints("size: 7", file("info", at("a.txt"), "-o", "yaml")...)
	o.prints("640", file("info", at("a.txt"))...)
	entries = nil
	o.decoded(&entries, file("search", at(""), "-p", "*.txt", "-o", "json")...)
	if len(entries) != 2 || entries[0].Path != at("a.txt") || entries[1].Path != at("in.txt") {
		o.t.Errorf("search: %+v", entries)
	}
	o.prints("a.txt", file("search", at(""), "-p", "a*", "-o", "yaml")...)
	o.prints("a.txt", file("search", at(""), "-p", "a*")...)
	o.decoded(&entries, file("search", at(""), "-p", "nothing*", "-o", "json")...)
	if len(entries) != 0 {
		o.t.Errorf("search without a match: %+v", entries)
	}
	o.prints("No files found", file("search", at(""), "-p", "nothing*")...)
}

func changes(o *osbRunner, file func(string, ...string) []string, at func(string) string) {
	o.t.Helper()
	o.prints("Replaced in: ", file("replace", at("a.txt"), "--old", "content", "--new", "other", "-o", "table")...)
	o.exactly("other", file("cat", at("a.txt"))...)
	o.prints("Replaced", file("replace", at("a.txt"), "--old", "not there", "--new", "x", "-o", "json")...)
	o.prints("Moved: ", file("mv", at("a.txt"), at("new/b.txt"))...)
	o.exactly("other", file("cat", at("new/b.txt"))...)
	o.fails(1, "exists", file("mv", at("in.txt"), at("new/b.txt"))...)
	o.prints("Permissions set: ", file("chmod", at("new/b.txt"), "--mode", "600")...)
	o.prints("mode: 600", file("info", at("new/b.txt"), "-o", "yaml")...)
	o.fails(1, "Set permissions failed", file("chmod", at("new/b.txt"), "--mode", "600", "--owner", "no-such-user")...)
	o.fails(1, "Sandbox Error", file("chmod", at("none"), "--mode", "600")...)
	o.fails(2, "Invalid permission mode", file("chmod", at("new/b.txt"), "--mode", "rw")...)
	o.prints("created", file("mkdir", at("d/e"), at("f"), "--mode", "700", "-o", "json")...)
	o.prints("mode: 700", file("info", at("d/e"), "-o", "yaml")...)
	o.fails(1, "Sandbox Error", file("mkdir", at("in.txt/below"))...)
	o.fails(1, "directory", file("rm", at("d"))...)
	o.prints("removed", file("rmdir", at("d"), at("f"), at("none"), "-o", "yaml")...)
	o.prints("deleted", file("rm", at("in.txt"), at("latin"), at("up"), at("none"), "-o", "json")...)
	o.prints("removed", file("rmdir", at(""))...)
	o.fails(1, "FILE_NOT_FOUND", file("info", at("new/b.txt"))...)
}
