package docker

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// refusals are how registries and engines say that there is no such image for this caller, in lower case.
var refusals = []string{"not found", "manifest unknown", "pull access denied", "unauthorized", "denied", "no basic auth", "authentication required", "no matching manifest", "invalid reference"}

// pullFault classifies why an image did not come. Neither its text nor its cause has any of the credentials in it.
func pullFault(img string, showed shown, err error) error {
	text, cause := strings.ToLower(err.Error()), withoutCredentials(err, showed.credentials())
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Newf(fault.Internal, "image %q could not be pulled in the time that docker.pull_timeout_seconds allows", img).WithCode(executor.CodeImage).Because(cause)
	case errors.Is(err, context.Canceled):
		return err
	}
	for _, r := range refusals {
		if strings.Contains(text, r) {
			return imageRefused(img, showed).Because(cause)
		}
	}
	if c := classify("pull", err); fault.Is(c, fault.Unavailable) && !strings.Contains(text, "error response from daemon") {
		return away(cause)
	}
	return fault.Newf(fault.Internal, "image %q could not be pulled: its registry does not answer as it should", img).WithCode(executor.CodeImage).Because(cause)
}

// imageRefused does not say whether the image exists: registries do not tell those whom they do not know either.
func imageRefused(img string, showed shown) *fault.Error {
	text := "image %q does not exist, or may not be pulled without credentials"
	switch {
	case showed.credentials().Set() && showed.own:
		text = "image %q does not exist, or its registry refuses the credentials in the Docker configuration of the server"
	case showed.credentials().Set():
		text = "image %q does not exist, or its registry refuses the credentials in image.auth"
	}
	return fault.Newf(fault.Invalid, text, img).WithCode(executor.CodeImage)
}

// maxForeign bounds what is kept of the text of a registry that was shown credentials.
const maxForeign = 500

// withoutCredentials returns the error as text in which the credentials do not occur: a registry may send back what it was sent. Without
// credentials it is the error itself.
func withoutCredentials(err error, c sandbox.Credentials) error {
	if !c.Set() {
		return err
	}
	var pairs []string
	for _, s := range []string{c.Username + ":" + c.Password, c.Password} {
		if s == "" {
			continue
		}
		for _, form := range []string{
			s, base64.StdEncoding.EncodeToString([]byte(s)), base64.RawStdEncoding.EncodeToString([]byte(s)),
			base64.URLEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)), url.QueryEscape(s), url.PathEscape(s),
		} {
			pairs = append(pairs, form, "[hidden]")
		}
	}
	text := strings.NewReplacer(pairs...).Replace(err.Error())
	if len(text) > maxForeign {
		text = strings.ToValidUTF8(text[:maxForeign], "") + "…"
	}
	return errors.New(text)
}
