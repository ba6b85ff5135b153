package installation

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"opensandbox/libs/sandbox"
)

// What the keys that are derived from the installation's are for (RFC 5869, info).
const (
	sealInfo   = "opensandbox sealed secrets 1"
	digestInfo = "opensandbox digests 1"
)

// sealForm is the first byte of what Seal returns: AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D) in front of the text.
const sealForm = 1

// Seal encrypts a secret of a sandbox under the key of the installation. It can be opened for this id only. An error without a key.
func (i Installation) Seal(id sandbox.ID, clear []byte) ([]byte, error) {
	box, err := i.box()
	if err != nil {
		return nil, err
	}
	return box.Seal([]byte{sealForm}, nil, clear, []byte(id)), nil
}

// Unseal decrypts what Seal returned. The error of what was sealed for another id or under another key, or has been changed, tells nothing of
// what is inside.
func (i Installation) Unseal(id sandbox.ID, sealed []byte) ([]byte, error) {
	box, err := i.box()
	if err != nil {
		return nil, err
	}
	if len(sealed) == 0 || sealed[0] != sealForm {
		return nil, errors.New("the secret was not sealed by this program")
	}
	clear, err := box.Open(nil, nil, sealed[1:], []byte(id))
	if err != nil {
		return nil, errors.New("the secret was sealed by another installation, or for another sandbox")
	}
	return clear, nil
}

// Digest maps a text to a short one that tells nothing about it to whoever lacks the installation's key: unlike a plain hash it cannot be used
// to try passwords. Equal texts give equal digests.
func (i Installation) Digest(text string) string {
	m := hmac.New(sha256.New, i.key)
	m.Write([]byte(digestInfo + "\x00" + text))
	return hex.EncodeToString(m.Sum(nil))
}

func (i Installation) box() (cipher.AEAD, error) {
	if len(i.key) == 0 {
		return nil, errors.New("the installation has no key: internal.shared_secret is empty")
	}
	key, err := hkdf.Key(sha256.New, i.key, nil, sealInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key for secrets: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher for secrets: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
