package files

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"**", "any.thing", true}, {"*", "", true}, {"*", ".hidden", true},
		{"*.txt", "a.txt", true}, {"*.txt", "a.txtx", false}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbY", false},
		{"?", "é", true}, {"?", "ab", false}, {"?", "", false},
		{"[abc]x", "bx", true}, {"[a-c]x", "dx", false}, {"[!a-c]x", "dx", true}, {"[^a]", "a", false}, {"[]a]", "]", true}, {"[a-]", "-", true}, {`[\]]`, "]", true},
		{"{a,b{c,d}}", "a", true}, {"{a,b{c,d}}", "bd", true}, {"{a,b{c,d}}", "b", false}, {"x{,y}z", "xz", true}, {"*.{go,mod}", "x.mod", true},
		{`\*`, "*", true}, {`\*`, "x", false}, {`\{a,b\}`, "{a,b}", true}, {"a,b", "a,b", true}, {"[{]", "{", true},
		{"!(*.txt)", "a.go", true}, {"!(*.txt)", "a.txt", false}, {"a!(b)c", "abc", false}, {"a!(b)c", "adc", true}, {"!a", "!a", true},
		{"**/name", "name", true}, {"**/**/*.go", "x.go", true}, {"{**/a,b}", "a", true}, {"dir/*.txt", "a.txt", false}, {"/a", "a", false},
		{"(a)", "(a)", true},
	}
	for _, tt := range tests {
		p, err := CompilePattern(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		if got := p.Match(tt.name); got != tt.want {
			t.Errorf("%q matches %q: got %t, want %t", tt.pattern, tt.name, got, tt.want)
		}
	}
	for _, bad := range []string{"[a", "[]", "{a", "a}", `\`, "!(a", "[z-a]", `[\`, strings.Repeat("{a,b}", 20), strings.Repeat("{", 50), strings.Repeat("a", 5000)} {
		if _, err := CompilePattern(bad); err == nil {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"a*b", "{a,{b,c}}[!x-z]?", `!(\*)`, "**/x", "[]]", "{,}"} {
		f.Add(s, "abc")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := CompilePattern(pattern)
		if err != nil {
			return
		}
		p.Match(name)
	})
}

// FuzzPatternSimple holds the short way of patterns like *.txt against the long one.
func FuzzPatternSimple(f *testing.F) {
	f.Add("*.txt", "a.txt")
	f.Add("{*.\ufffd,*\\*,*}", "\xff.\xfe*")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := CompilePattern(pattern)
		if err != nil {
			return
		}
		got := p.Match(name)
		for i := range p.alternatives {
			p.alternatives[i].simple = false
		}
		if want := p.Match(name); got != want {
			t.Errorf("%q matches %q: got %t the short way, want %t", pattern, name, got, want)
		}
	})
}

// FuzzPatternLiteral: an escaped name matches itself and nothing longer.
func FuzzPatternLiteral(f *testing.F) {
	f.Add("a[b]{c}*?!(d)\\")
	f.Fuzz(func(t *testing.T, name string) {
		var b strings.Builder
		for _, r := range name {
			b.WriteByte('\\')
			b.WriteRune(r)
		}
		name = strings.ToValidUTF8(name, "\ufffd")
		p, err := CompilePattern(b.String())
		if err != nil {
			return // Too long.
		}
		if !p.Match(string([]rune(name))) && b.Len() == 2*len([]rune(name)) || p.Match(name+"x") {
			t.Errorf("%q does not mean %q", b.String(), name)
		}
	})
}

func FuzzFirstRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=9-1,0-0", "bytes=0-9223372036854775807", "x"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		start, length, err := FirstRange(header, size)
		if err == nil && (start < 0 || length < 1 || length > size || start > size-length) {
			t.Errorf("FirstRange(%q, %d) = %d, %d", header, size, start, length)
		}
	})
}

func FuzzCopyLines(f *testing.F) {
	f.Add("a\nb\r\n\nc", int64(2), int64(2))
	f.Add("\r\r\n\r", int64(1), int64(9))
	f.Fuzz(func(t *testing.T, text string, from, count int64) {
		if from < 1 || count < 1 {
			return
		}
		var got bytes.Buffer
		if err := CopyLines(&got, strings.NewReader(text), from, count); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(text, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], "\r")
		}
		lines = lines[min(int64(len(lines)), from-1):]
		lines = lines[:min(int64(len(lines)), count)]
		if want := strings.Join(lines, "\n"); got.String() != want {
			t.Errorf("CopyLines(%q, %d, %d) = %q, want %q", text, from, count, got.String(), want)
		}
	})
}

func FuzzUpload(f *testing.F) {
	f.Add("--b\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m\"\r\n\r\n{\"path\":\"x\"}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhello\r\n--b--\r\n")
	f.Add("--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhello\r\n--b--\r\n")
	f.Add("--b--")
	f.Fuzz(func(t *testing.T, body string) {
		dir := t.TempDir()
		s := New([]string{"HOME=" + dir}, []string{dir})
		// Only names below the directory: the fuzzer must not write anywhere else.
		inside := strings.ReplaceAll(strings.ReplaceAll(body, "..", ""), `"path":"`, `"path":"~/`)
		if strings.Contains(inside, `"path":"~/`) != strings.Contains(inside, "path") || strings.ContainsAny(inside, `\$`) || strings.Contains(strings.ToLower(strings.ReplaceAll(inside, `"path":"~/`, "")), "path") {
			return
		}
		_ = s.Upload(strings.NewReader(inside), "b")
		left, err := filepath.Glob(filepath.Join(dir, ".opensandbox-upload-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("temporary files stay: %v %v", left, err)
		}
	})
}

// TestUploadIsStreamed: what is on disk grows while the body is still open.
func TestUploadIsStreamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New([]string{"HOME=" + dir}, []string{dir})
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.Upload(r, "b") }()
	head := "--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"path\":\"~/x\"}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n"
	if _, err := io.WriteString(w, head); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if _, err := w.Write(make([]byte, chunk)); err != nil {
			t.Fatal(err)
		}
	}
	// With a name or without one, the file is among those that this process has open.
	var largest int64
	for _, fd := range opened(t, dir) {
		if fi, err := os.Stat(fd); err == nil {
			largest = max(largest, fi.Size())
		}
	}
	if largest < 4*chunk {
		t.Errorf("on disk: %d bytes, want most of what was sent", largest)
	}
	_ = w.CloseWithError(errors.New("cut"))
	if err := <-done; err == nil {
		t.Error("a cut upload succeeded")
	}
}

// opened returns the descriptors of this process that are files in dir.
func opened(t *testing.T, dir string) (fds []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if link, err := os.Readlink(fd); err == nil && strings.HasPrefix(link, dir+"/") {
			fds = append(fds, fd)
		}
	}
	return fds
}
