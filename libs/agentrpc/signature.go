package agentrpc

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Header carries the signature of a call: the version, the time in seconds since 1970 and an HMAC-SHA256 in hexadecimal, with commas between.
const Header = "OpenSandbox-Internal-Signature"

// MaxSkew is how far the time of a signature may be from the receiver's clock: how long a call that was overheard can be repeated, and how
// far the clocks of two machines may differ.
const MaxSkew = 60 * time.Second

const (
	version = "v1"
	// keyInfo separates the key from others that are derived from the same secret (RFC 5869, info).
	keyInfo = "opensandbox internal api 1"
)

// Errors of a signature. They are for logs: a stranger is told only that the call was refused.
var (
	errUnsigned  = errors.New("not signed")
	errMalformed = errors.New("the signature is malformed")
	errForged    = errors.New("the signature does not fit the call: another secret, node, path or query")
	errStale     = errors.New("the signature is too old or too new: are the clocks in step?")
)

// signer makes and checks signatures.
type signer struct{ key []byte }

func newSigner(secret string) (signer, error) {
	if secret == "" {
		return signer{}, errors.New("internal calls need a shared secret")
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, keyInfo, sha256.Size)
	if err != nil {
		return signer{}, fmt.Errorf("derive the key of internal calls: %w", err)
	}
	return signer{key}, nil
}

// mac is over everything that a call consists of. No part can hold a line break: net/http refuses one in a method and in a URL, and names of
// nodes have none.
func (s signer) mac(r *http.Request, node string, at int64) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(strings.Join([]string{version, r.Method, node, r.URL.EscapedPath(), r.URL.RawQuery, strconv.FormatInt(at, 10)}, "\n")))
	return m.Sum(nil)
}

// sign signs a call to the agent of a node.
func (s signer) sign(r *http.Request, node string, now time.Time) {
	at := now.Unix()
	r.Header.Set(Header, format(at, s.mac(r, node, at)))
}

// check checks a call to the agent of a node.
func (s signer) check(r *http.Request, node string, now time.Time) error {
	values := r.Header.Values(Header)
	if len(values) == 0 {
		return errUnsigned
	}
	if len(values) > 1 {
		return errMalformed
	}
	at, mac, err := parse(values[0])
	if err != nil {
		return err
	}
	if !hmac.Equal(mac, s.mac(r, node, at)) { // takes the same time wherever they differ
		return errForged
	}
	if off := now.Sub(time.Unix(at, 0)); off > MaxSkew || off < -MaxSkew {
		return errStale
	}
	return nil
}

func format(at int64, mac []byte) string {
	return version + "," + strconv.FormatInt(at, 10) + "," + hex.EncodeToString(mac)
}

// parse reads what format writes, and nothing else.
func parse(s string) (at int64, mac []byte, err error) {
	rest, ok := strings.CutPrefix(s, version+",")
	if !ok {
		return 0, nil, errMalformed
	}
	seconds, digits, ok := strings.Cut(rest, ",")
	if !ok || len(digits) != hex.EncodedLen(sha256.Size) {
		return 0, nil, errMalformed
	}
	if at, err = strconv.ParseInt(seconds, 10, 64); err != nil || strconv.FormatInt(at, 10) != seconds || at < 0 {
		return 0, nil, errMalformed
	}
	if mac, err = hex.DecodeString(digits); err != nil || hex.EncodeToString(mac) != digits {
		return 0, nil, errMalformed
	}
	return at, mac, nil
}
