// Package installation holds what makes one installation distinct from another on the same machine: its id, which every label and
// store carries, and its key, from which the access tokens of sandboxes are derived.
package installation

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"opensandbox/libs/sandbox"
)

// Installation identifies one installation. It is immutable.
type Installation struct {
	id  string
	key []byte
}

// keyBytes is the size of the key: that of the hash it is used with.
const keyBytes = sha256.Size

const (
	keyFile = "installation.key"
	idFile  = "installation.id"
)

// MachineIDPath is where Linux keeps the id of the machine (machine-id(5)).
const MachineIDPath = "/etc/machine-id"

var validID = regexp.MustCompile(`^[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?\z`)

// New returns an installation with a given id and key, for processes that get both from elsewhere. The id has 1 to 40 characters
// of a-z 0-9 and -, and the key at least 32 bytes.
func New(id string, key []byte) (Installation, error) {
	if !validID.MatchString(id) {
		return Installation{}, fmt.Errorf("installation id %q: expected 1 to 40 characters of a-z, 0-9 and -, not starting or ending with -", id)
	}
	if len(key) < keyBytes {
		return Installation{}, fmt.Errorf("installation key has %d bytes; at least %d are needed", len(key), keyBytes)
	}
	return Installation{id: id, key: append([]byte(nil), key...)}, nil
}

// Open returns the installation that lives in dataDir, making its key at the first start. The id is want if that is not empty,
// else the one kept in dataDir, else a hash of the machine id and the absolute path of the store, else (no machine id) a random
// one; it is kept in dataDir. An id that differs from the kept one is refused: two servers would take each other's sandboxes
// for garbage.
func Open(dataDir, storePath, want string) (Installation, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return Installation{}, fmt.Errorf("data directory: %w", err)
	}
	key, err := keep(filepath.Join(dataDir, keyFile), func() (string, error) { return random(keyBytes) })
	if err != nil {
		return Installation{}, err
	}
	raw, err := hex.DecodeString(key)
	if err != nil {
		return Installation{}, fmt.Errorf("%s does not hold a key in hexadecimal: restore it, or remove it if no sandbox is left", filepath.Join(dataDir, keyFile))
	}
	id, err := keep(filepath.Join(dataDir, idFile), func() (string, error) { return deriveID(storePath, want) })
	if err != nil {
		return Installation{}, err
	}
	if want != "" && want != id {
		return Installation{}, fmt.Errorf("server.installation_id is %q, but %s says %q: sandboxes of the earlier id would be lost; use that id, or another data directory", want, filepath.Join(dataDir, idFile), id)
	}
	return New(id, raw)
}

// DefaultID is the id of an installation of several processes that was given none.
const DefaultID = "main"

// keyInfo separates the key from others that are derived from the same secret (RFC 5869, info).
const keyInfo = "opensandbox installation key 1"

// Shared returns the installation of processes that share a secret, from which each derives the same key. An empty id is DefaultID. Without
// a secret the installation has no key: it can neither make tokens nor tell its fingerprint.
func Shared(id, secret string) (Installation, error) {
	if id == "" {
		id = DefaultID
	}
	if secret == "" {
		if !validID.MatchString(id) {
			return New(id, nil)
		}
		return Installation{id: id}, nil
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, keyInfo, keyBytes)
	if err != nil {
		return Installation{}, fmt.Errorf("derive the installation key: %w", err)
	}
	return New(id, key)
}

// Fingerprint tells keys apart without telling them: two processes with another fingerprint under one id are not of one installation. Empty
// without a key.
func (i Installation) Fingerprint() string {
	if len(i.key) == 0 {
		return ""
	}
	m := hmac.New(sha256.New, i.key)
	m.Write([]byte("fingerprint"))
	return hex.EncodeToString(m.Sum(nil)[:8])
}

// ID returns the id.
func (i Installation) ID() string { return i.id }

// Token returns the access token of one incarnation of a sandbox: the HMAC of id and epoch under the installation key. It is never
// stored; whoever holds the key can make it again.
func (i Installation) Token(id sandbox.ID, epoch uint64) string {
	m := hmac.New(sha256.New, i.key)
	m.Write([]byte("execd\x00" + string(id) + "\x00" + strconv.FormatUint(epoch, 10)))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func deriveID(storePath, want string) (string, error) {
	if want != "" {
		return want, nil
	}
	machine, err := os.ReadFile(MachineIDPath)
	if err != nil || strings.TrimSpace(string(machine)) == "" {
		return random(8)
	}
	abs, err := filepath.Abs(storePath)
	if err != nil {
		return "", fmt.Errorf("store path: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(string(machine)) + "\x00" + abs))
	return hex.EncodeToString(sum[:8]), nil
}

func random(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("random bytes: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// keep returns the content of the file, or writes the result of make into it. The file appears whole or not at all, and of two
// processes that race the first wins.
func keep(path string, make func() (string, error)) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	v, err := make()
	if err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(v + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return keep(path, make)
	} else if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return v, nil
}
