package settings

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"opensandbox/libs/conf"
)

// Ingress is the section of how traffic reaches sandboxes.
type Ingress struct {
	// Mode is direct or gateway.
	Mode             string
	Address, Route   string
	ActiveKey        string
	SecureAccessKeys map[string]conf.Secret
}

const (
	ingressDirect  = "direct"
	ingressGateway = "gateway"
)

// Variables of OpenSandbox 1.1.1 that replace the keys of secure access.
const (
	keysVariable      = "OPENSANDBOX_SECURE_ACCESS_KEYS"
	activeKeyVariable = "OPENSANDBOX_SECURE_ACCESS_ACTIVE_KEY"
)

func ingressKeys(s *Settings) []conf.Key {
	v := &s.Ingress
	table := []conf.Key{
		conf.Enum("ingress.mode", &v.Mode, ingressDirect, ingressGateway).Describe("whether clients reach sandboxes at their nodes, or through a gateway", api),
		conf.String("ingress.gateway.address", &v.Address, gatewayAddress).Describe("host of the gateway, `*.` and a domain for `wildcard`", api),
		conf.Enum("ingress.gateway.route.mode", &v.Route, "wildcard", "header", "uri").Describe("how a request says which sandbox it is for", api),
		conf.String("ingress.secure_access.active_key", &v.ActiveKey, keyID).FromVariable(activeKeyVariable).Allow("0-9, a-z").Describe("the key that new addresses are signed with", api),
		accessKeys(&v.SecureAccessKeys).FromVariable(keysVariable).Allow("array of { key_id, key }").
			Describe("keys of signed addresses: `key_id` is one character of 0-9 and a-z, `key` is base64; in the variable `id=base64,…`", api),
	}
	for i := range table {
		table[i] = table[i].Mark(notYet)
		if section := conf.SectionOf(table[i].Name); section != "ingress" {
			table[i] = table[i].Within(section)
		}
	}
	return table
}

// accessKeys binds an array of tables with key_id and key, or id=base64 pairs in the variable.
func accessKeys(to *map[string]conf.Secret) conf.Key {
	wrong := errors.New("expected an array of tables with key_id, one character of 0-9 and a-z, and key in base64, with different ids")
	hidden := func() any {
		if len(*to) == 0 {
			return conf.Secret{}
		}
		return conf.NewSecret(conf.Mask)
	}
	return conf.Key{Name: "ingress.secure_access.keys", Secret: true, Table: true, Get: hidden, Parse: accessKeyPairs, Bind: func(v any) error {
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			return wrong
		}
		out := map[string]conf.Secret{}
		for _, e := range list {
			entry, _ := e.(map[string]any)
			id, _ := entry["key_id"].(string)
			text, _ := entry["key"].(string)
			raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
			if _, twice := out[id]; err != nil || len(raw) == 0 || keyID(id) != nil || twice {
				return wrong
			}
			out[id] = conf.NewSecret(text)
		}
		*to = out
		return nil
	}}
}

func accessKeyPairs(text string) (any, error) {
	var list []any
	for pair := range strings.SplitSeq(text, ",") {
		id, key, ok := strings.Cut(pair, "=")
		if !ok || id == "" {
			return nil, errors.New("expected id=base64 pairs, separated by commas")
		}
		list = append(list, map[string]any{"key_id": id, "key": key})
	}
	return list, nil
}

func keyID(s string) error {
	if len(s) != 1 || !strings.Contains("0123456789abcdefghijklmnopqrstuvwxyz", s) {
		return errors.New("expected one character of 0-9 and a-z")
	}
	return nil
}

func gatewayAddress(s string) error {
	if strings.TrimSpace(s) == "" || strings.Contains(s, "://") {
		return errors.New("expected a host without a scheme")
	}
	return nil
}

// checkIngress holds the rules of OpenSandbox 1.1.1, but that a gateway is no matter of the runtime.
func checkIngress(s *Settings) error {
	const gateway, access = "ingress.gateway", "ingress.secure_access"
	l, v := s.loaded, s.Ingress
	var mistakes []error
	refuse := func(key, problem string) { mistakes = append(mistakes, l.Mistake(key, problem)) }
	switch {
	case v.Mode == ingressDirect:
		for _, table := range []string{gateway, access} {
			if l.Present(table) {
				mistakes = append(mistakes, l.TableMistake(table, `needs ingress.mode = "gateway"`))
			}
		}
	case !l.Set(gateway + ".address"):
		refuse("ingress.mode", "needs ingress.gateway.address")
	case !l.Set(gateway + ".route.mode"):
		refuse("ingress.mode", "needs ingress.gateway.route.mode")
	default:
		if err := routeAddress(v.Route, v.Address); err != nil {
			refuse(gateway+".address", err.Error())
		}
	}
	if l.Present(access) {
		if _, ok := v.SecureAccessKeys[v.ActiveKey]; !l.Set(access+".active_key") || !l.Set(access+".keys") {
			mistakes = append(mistakes, l.TableMistake(access, fmt.Sprintf("needs active_key and keys (%s and %s)", activeKeyVariable, keysVariable)))
		} else if !ok {
			refuse(access+".active_key", "names none of the keys")
		}
	}
	if v.Mode == ingressGateway && s.Runtime.Type == RuntimeDocker {
		refuse("ingress.mode", `only "direct" is available yet; clients can use router.listen`)
	}
	return errors.Join(mistakes...)
}

var (
	wildcardPattern = regexp.MustCompile(`^\*\.[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63})+$`)
	hostPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*$`)
)

// routeAddress checks the form of the gateway's address that the way of routing needs.
func routeAddress(route, address string) error {
	switch {
	case route == "wildcard" && !wildcardPattern.MatchString(address):
		return errors.New("expected *. and a domain of two labels or more, such as *.sandboxes.example.com")
	case route == "wildcard":
		return nil
	case strings.Contains(address, "*"):
		return fmt.Errorf("must have no * with route.mode = %q", route)
	case route == "uri":
		return nil
	}
	host, port, hasPort := strings.Cut(address, ":")
	if hasPort {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return errors.New("expected a port from 1 to 65535")
		}
	}
	if _, err := netip.ParseAddr(host); err != nil && (len(host) > 253 || !hostPattern.MatchString(host)) {
		return errors.New("expected a host, or host:port")
	}
	return nil
}
