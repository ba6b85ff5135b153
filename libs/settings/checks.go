package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

func filled(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func ipv4(s string) error {
	if a, err := netip.ParseAddr(strings.TrimSpace(s)); err != nil || !a.Is4() {
		return errors.New("expected an IPv4 address such as 0.0.0.0 or 127.0.0.1")
	}
	return nil
}

// listen checks host:port of a listener. The host may be empty, for all addresses; port 0 takes a free one.
func listen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("expected host:port such as 127.0.0.1:9090")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return errors.New("expected host:port with a port from 0 to 65535")
	}
	if host == "" {
		return nil
	}
	return hostAddress(host)
}

func listenOrOff(s string) error {
	if s == "" {
		return nil
	}
	return listen(s)
}

// hostAddress takes an IP address or a host name, without port and brackets.
func hostAddress(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	return hostName(s)
}

// hostName takes a DNS name, with underscores as container networks have them, or an IPv4 address (RFC 1123).
func hostName(s string) error {
	wrong := errors.New("expected a host name or an IP address")
	if s == "" || len(s) > 253 {
		return wrong
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !plainName(l) || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return wrong
		}
	}
	// A name whose last label is a number is meant as an IPv4 address.
	if _, err := strconv.Atoi(labels[len(labels)-1]); err == nil {
		if a, err := netip.ParseAddr(s); err != nil || !a.Is4() {
			return wrong
		}
	}
	return nil
}

// plainName reports whether s consists of letters, digits and .-_ only, and is not empty.
func plainName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}

// maxName bounds the names of nodes and labels; it is the bound of a DNS label and of a Kubernetes label value.
const maxName = 63

// nodeName is stricter than what a host can be called, because the name becomes part of keys, labels and file names.
func nodeName(s string) error {
	if !plainName(s) || len(s) > 253 {
		return errors.New("expected a name of letters, digits and .-_, at most 253 long")
	}
	return nil
}

func label(name, value string) error {
	if !plainName(strings.ReplaceAll(name, "/", "_")) || len(name) > 2*maxName {
		return fmt.Errorf("expected a name of letters, digits and .-_/, at most %d long", 2*maxName)
	}
	if value != "" && !plainName(value) || len(value) > maxName {
		return fmt.Errorf("expected a value of letters, digits and .-_, at most %d long", maxName)
	}
	return nil
}

// minShared is what a secret needs to stand against guessing: 16 characters of base64 are 96 bits.
const minShared = 16

func sharedSecret(s string) error {
	if s != "" && len(s) < minShared {
		return fmt.Errorf("expected at least %d characters; openssl rand -base64 32 makes a good one", minShared)
	}
	return nil
}

func redisURL(s string) error {
	_, err := ParseRedisURL(s)
	return err
}
