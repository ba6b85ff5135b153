package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestCredentialsDoNotShow writes credentials in every way in which something may be logged.
func TestCredentialsDoNotShow(t *testing.T) {
	t.Parallel()
	c := Credentials{Username: "robot-name", Password: "pass-phrase"}
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
	for _, secret := range []string{c.Username, c.Password, fmt.Sprintf("%x", c.Password)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q shows in:\n%s", secret, out.String())
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
	if _, err := DecodeCredentials([]byte(`{"username": pass-phrase`)); err == nil || strings.Contains(err.Error(), "pass-phrase") {
		t.Errorf("broken: %v", err)
	}
	if (Credentials{}).Set() || !want.Set() {
		t.Error("Set")
	}
}
