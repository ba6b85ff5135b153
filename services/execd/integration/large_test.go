//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// TestAbuseLargeFiles: texts are replaced in files, and with results, that are larger than the memory of the sandbox.
func TestAbuseLargeFiles(t *testing.T) {
	a := abuse(t, "--memory", "96m", "--memory-swap", "96m")
	a.sh("cd /tmp; busybox dd if=/dev/zero of=sparse bs=1 count=0 seek=3G 2>/dev/null; echo text >>sparse; " +
		"busybox yes | busybox tr -d '\\n' | busybox head -c 1048576 >flat")
	replace := func(path, old, by string) (int, string) {
		return a.request("POST", "/files/replace?verbose=true", "", map[string]map[string]string{path: {"old": old, "new": by}})
	}
	if status, body := replace("/tmp/sparse", "nothing of this", ""); status != http.StatusOK || !strings.Contains(body, `"replacedCount":0`) {
		t.Errorf("3 GiB without the text: %d %s", status, body)
	}
	if status, body := replace("/tmp/flat", "y", strings.Repeat("n", 4<<20)); status != http.StatusInternalServerError || !strings.Contains(body, "no space left") {
		t.Errorf("a result of 4 TiB: %d %s", status, body)
	}
	if status, body := replace("/tmp/flat", "y", strings.Repeat("n", 200)); status != http.StatusOK || !strings.Contains(body, `"replacedCount":1048576`) {
		t.Errorf("a result of 200 MiB: %d %s", status, body)
	}
	if size := a.sh("busybox stat -c %s /tmp/flat"); size != strconv.Itoa(200<<20)+"\n" {
		t.Errorf("the file has %s bytes", size)
	}
	a.before.files += 2
	a.over()
}

// TestAbuseLongListing: the list of more files than there is memory for arrives whole.
func TestAbuseLongListing(t *testing.T) {
	a := abuse(t, "--memory", "40m", "--memory-swap", "40m")
	const directories, files = 100, 1000
	a.sh("busybox mkdir /tmp/d; cd /tmp/d; for d in $(busybox seq " + strconv.Itoa(directories) + "); do busybox mkdir $d; for i in $(busybox seq " +
		strconv.Itoa(files) + "); do : >$d/" + strings.Repeat("long", 60) + "$i; done; done")
	for path, want := range map[string]int{"/files/search?path=/tmp/d&pattern=long*": directories * files, "/directories/list?path=/tmp/d&depth=2": directories*files + directories} {
		res, err := client.Get(a.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := countElements(res.Body); n != want || err != nil {
			t.Errorf("%s: %d elements, want %d; %v", path, n, want, err)
		}
		res.Body.Close()
	}
	a.before.files += directories*files + directories + 1
	a.over()
}

// countElements counts the objects of an array that no string of disturbs, and looks whether it ends.
func countElements(r io.Reader) (n int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var last []byte
	for {
		piece, err := in.ReadSlice('}')
		n += bytes.Count(piece, []byte("}"))
		if err == nil || err == bufio.ErrBufferFull {
			continue
		}
		last = append(last, piece...)
		if err != io.EOF || string(bytes.TrimSpace(last)) != "]" {
			return n, err
		}
		return n, nil
	}
}
