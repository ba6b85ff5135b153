package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
)

// Credentials are what a registry wants to see before it gives an image. They are in no record: a store keeps them sealed, beside the record,
// for as long as Record.KeepsSecret. However they are printed, logged or marshalled, only the fact that there are some comes out.
type Credentials struct {
	Username, Password string
}

// hidden stands for credentials wherever they would be written.
const hidden = "[credentials]"

// Set reports whether there are any. A registry takes a request with two empty words for one without credentials.
func (c Credentials) Set() bool { return c != Credentials{} }

// String hides the credentials.
func (c Credentials) String() string { return hidden }

// GoString hides the credentials.
func (c Credentials) GoString() string { return hidden }

// LogValue hides the credentials.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the credentials from every encoder; Encode is the way to write them.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// credentialsForm is how credentials are written before they are sealed.
type credentialsForm struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Encode writes the credentials in clear, to be sealed.
func (c Credentials) Encode() ([]byte, error) { return json.Marshal(credentialsForm(c)) }

// DecodeCredentials reads what Encode wrote. The error repeats nothing of it.
func DecodeCredentials(clear []byte) (Credentials, error) {
	var f credentialsForm
	if err := json.Unmarshal(clear, &f); err != nil {
		return Credentials{}, errors.New("the credentials are not in the form that this program writes")
	}
	return Credentials(f), nil
}

// Secrets is how an agent gets what travels beside a record. Insert writes it in the same step as the record, and the step after which a
// record no longer KeepsSecret drops it: a secret without such a record does not exist.
type Secrets interface {
	// Secret returns what Insert was given for the id, sealed as it was; nil when there is none, or none any more.
	Secret(ctx context.Context, id ID) ([]byte, error)
}

// KeepsSecret reports whether the credentials of the image may still be needed: until the sandbox is Running, or, if it may be made again on
// another node, until its end.
func (r *Record) KeepsSecret() bool {
	if !r.Spec.Private || r.Gone() || r.Ended() {
		return false
	}
	present := r.Observed.Epoch == r.Placement.Epoch
	if present && r.Over() {
		return false
	}
	return r.Spec.Replace || !(present && r.Observed.Started)
}

// DropsSecret reports whether the step from before to r is the one that ends the need for the credentials.
func (r *Record) DropsSecret(before *Record) bool {
	return before != nil && before.KeepsSecret() && !r.KeepsSecret()
}
