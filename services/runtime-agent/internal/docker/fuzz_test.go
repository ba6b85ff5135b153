package docker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// FuzzParseLabels: what is read from the labels of a container is what would be written for it.
func FuzzParseLabels(f *testing.F) {
	f.Add("a", "1", "t", "2026-01-02T03:04:05.123456789Z", "2026-01-02T05:04:05+02:00")
	f.Add("a", "0", "", "2026-01-02T03:04:05Z", "")
	f.Add("", "-1", "", "0000-01-01T00:00:00+23:00", "tomorrow")
	f.Fuzz(func(t *testing.T, id, epoch, tenant, created, deadline string) {
		in, err := parseLabels(map[string]string{labelID: id, labelEpoch: epoch, labelTenant: tenant, labelCreated: created, labelDeadline: deadline})
		if err != nil {
			return
		}
		for _, at := range []time.Time{in.CreatedAt, in.Deadline} {
			if y := at.UTC().Year(); y < 0 || y > 9999 {
				return // RFC 3339 has no such year; only a zone has led there
			}
		}
		e := &Engine{}
		again, err := parseLabels(e.labels(executor.Plan{Ref: in.Ref, Tenant: in.Tenant, CreatedAt: in.CreatedAt, Deadline: in.Deadline}))
		if err != nil || again.Ref != in.Ref || again.Tenant != in.Tenant || !again.CreatedAt.Equal(in.CreatedAt) || !again.Deadline.Equal(in.Deadline) {
			t.Errorf("%+v became %+v, %v", in, again, err)
		}
	})
}

// FuzzWithoutCredentials: a registry may send back what it was shown, in any surroundings. Passwords that the text [hidden] could itself
// be a part of are left out.
func FuzzWithoutCredentials(f *testing.F) {
	password := regexp.MustCompile(`^[0-9A-Za-z]{8,}$`)
	f.Add("user", "0123456789", "unauthorized: ", " is wrong")
	f.Add("0123456789", "0123456789", "", "0123456789")
	f.Add("é:", "01234567", "Basic ", strings.Repeat("x", maxForeign))
	f.Fuzz(func(t *testing.T, user, pass, before, after string) {
		if user == "" || !password.MatchString(pass) {
			return
		}
		both := user + ":" + pass
		encoded := base64.StdEncoding.EncodeToString([]byte(both))
		text := before + pass + after + both + before + encoded + after
		got := withoutCredentials(errors.New(text), sandbox.Credentials{Username: user, Password: pass}).Error()
		if strings.Contains(got, pass) || strings.Contains(got, encoded) {
			t.Errorf("%q with the user %q and the password %q became %q", text, user, pass, got)
		}
		if len(got) > maxForeign+len("…") {
			t.Errorf("%d bytes", len(got))
		}
	})
}

// FuzzPullProgress: whatever an engine tells of a pull, people are shown a share from 0 to 100 %.
func FuzzPullProgress(f *testing.F) {
	f.Add([]byte(`{"status":"Pulling fs layer","id":"a"}{"status":"Downloading","id":"a","progressDetail":{"current":5,"total":10}}{"status":"Pull complete","id":"a"}`))
	f.Add([]byte(`{"status":"Downloading","id":"a","progressDetail":{"current":9223372036854775807,"total":9223372036854775807}}`))
	f.Add([]byte(`{"status":"Downloading","id":"a","progressDetail":{"current":-1,"total":1}}{"status":"Downloading","id":"b","progressDetail":{"current":7,"total":1}}`))
	share := regexp.MustCompile(`: (-?\d+)% of (-?[\d.]+) MB`)
	f.Fuzz(func(t *testing.T, stream []byte) {
		l := newLayers("an image")
		for dec := json.NewDecoder(strings.NewReader(string(stream))); ; {
			var m pullMessage
			if dec.Decode(&m) != nil {
				return
			}
			l.take(m)
			text := l.String()
			if !strings.HasPrefix(text, "pulling image an image") {
				t.Errorf("%q", text)
			}
			shown := share.FindStringSubmatch(text)
			if shown == nil {
				continue
			}
			if percent, err := strconv.Atoi(shown[1]); err != nil || percent < 0 || percent > 100 {
				t.Errorf("%s gives %q", stream, text)
			}
		}
	})
}
