package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"opensandbox/libs/secrettest"
)

// TestCredentialsDoNotShow writes credentials in every way in which something may be logged.
func TestCredentialsDoNotShow(t *testing.T) {
	t.Parallel()
	c := Credentials{Username: "robot-name", Password: secrettest.New("a password of a registry")}
	var out bytes.Buffer
	held := struct {
		C Credentials
		P *Credentials
	}{c, &c}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", c, &c, held)
	}
	for _, v := range []any{c, &c, held} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "c", v)
	}
	secrettest.Absent(t, "what was printed", out.String())
	for what, secret := range map[string]string{"the name": c.Username, "the password in hex": fmt.Sprintf("%x", c.Password)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s shows", what)
		}
	}
}

func TestCredentialsAreEncoded(t *testing.T) {
	t.Parallel()
	want := Credentials{Username: "ü\"", Password: "p\x00:\n"}
	clear, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeCredentials(clear); err != nil || got != want {
		t.Errorf("got %#v, %v", got, err)
	}
	_, err = DecodeCredentials([]byte(`{"username": ` + secrettest.New("a broken password")))
	if err == nil {
		t.Error("broken credentials were taken")
	}
	secrettest.Absent(t, "the error", fmt.Sprint(err))
	if (Credentials{}).Set() || !want.Set() {
		t.Error("Set")
	}
}
