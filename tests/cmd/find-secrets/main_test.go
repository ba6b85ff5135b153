package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "a value: \"nobody\" <may>+see"

func TestRun(t *testing.T) {
	t.Parallel()
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	const list = "the password\t" + secret + "\n"
	tests := map[string]struct {
		list, output string
		says         string // empty: passes
	}{
		"nothing shown":  {list, "ok\n", ""},
		"plain":          {list, "ok\n" + secret, "/output/log shows the password (as it is) in line 2\n"},
		"JSON":           {list, string(quoted), "as JSON"},
		"URL":            {list, url.QueryEscape(secret), "escaped for a URL"},
		"base64":         {list, base64.StdEncoding.EncodeToString([]byte(secret)), "as base64"},
		"second base64":  {list, base64.StdEncoding.EncodeToString([]byte("x" + secret)), "as base64"},
		"third base64":   {list, base64.StdEncoding.EncodeToString([]byte("xx" + secret)), "as base64"},
		"empty list":     {"", "ok\n", "no secret is listed"},
		"no list":        {"-", "ok\n", "no such file"},
		"empty output":   {list, "", "output is empty"},
		"no output":      {list, "-", "no such file"},
		"list of others": {"what\n", "ok\n", "line 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put(t, filepath.Join(dir, "secrets"), tt.list)
			put(t, filepath.Join(dir, "output", "log"), tt.output)
			var out bytes.Buffer
			err := run([]string{filepath.Join(dir, "secrets"), filepath.Join(dir, "output")}, &out)
			text := out.String()
			if err != nil {
				text += err.Error()
			}
			if (err == nil) != (tt.says == "") || !strings.Contains(text, tt.says) || strings.Contains(text, "nobody") {
				t.Errorf("want %q in %q", tt.says, text)
			}
		})
	}
	if err := run([]string{"secrets"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Errorf("without output: %v", err)
	}
}

// put writes a file, unless the text is "-".
func put(t *testing.T, path, text string) {
	t.Helper()
	if text == "-" {
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
