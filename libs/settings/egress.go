package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/conf"
)

// Egress is the section of the outbound rules of sandboxes. It is checked and has no effect yet: a create with a network policy is refused.
type Egress struct {
	Image, Mode      string
	DisableIPv6      bool
	OTLPEndpoint     string
	ReadinessTimeout time.Duration
	// Requests and Limits are Kubernetes amounts of the sidecar.
	Requests, Limits map[string]string
	UpstreamProxy    UpstreamProxy
}

// UpstreamProxy is the proxy that a sidecar sends what leaves through.
type UpstreamProxy struct {
	URL                      string
	Authorization            conf.Secret
	CACertPath, CASecretName string
}

const (
	egressDNS = "dns"
	egressNFT = "dns+nft"
)

func egressKeys(s *Settings) []conf.Key {
	v := &s.Egress
	u := &v.UpstreamProxy
	table := []conf.Key{
		conf.String("egress.image", &v.Image, filled).Describe("image of the sidecar that enforces network policies", agent),
		conf.Enum("egress.mode", &v.Mode, egressDNS, egressNFT).Describe("whether names only, or addresses too, are filtered", agent),
		conf.Bool("egress.disable_ipv6", &v.DisableIPv6).Describe("sandboxes with a policy have no IPv6", agent),
		conf.String("egress.otlp_endpoint", &v.OTLPEndpoint, blankOr(webAddress)).Conceal().Allow("URL").Describe("where the sidecar sends its telemetry", agent),
		conf.FloatSeconds("egress.readiness_timeout_seconds", &v.ReadinessTimeout, 0, true).Describe("how long a create waits for the sidecar", agent),
		conf.Texts("egress.requests", &v.Requests, amountOfResource).Describe("what the sidecar's container reserves in Kubernetes", agent),
		conf.Texts("egress.limits", &v.Limits, amountOfResource).Describe("what the sidecar's container may use in Kubernetes", agent),
		conf.String("egress.upstream_proxy.url", &u.URL, func(s string) error { return proxyAddress(strings.TrimSpace(s)) }).Conceal().
			Then(func() error { u.URL = strings.TrimSpace(u.URL); return nil }).Allow("http:// or https:// host, with a port").Describe("proxy that all allowed traffic goes through", agent),
		conf.Hidden("egress.upstream_proxy.authorization", &u.Authorization, oneLine).Describe("what that proxy gets as `Proxy-Authorization`", agent),
		conf.String("egress.upstream_proxy.ca_cert_path", &u.CACertPath, blankOr(certificatePath)).Allow("absolute path").Describe("certificate authority of that proxy: a file on the node", agent),
		conf.String("egress.upstream_proxy.ca_secret_name", &u.CASecretName, blankOr(subdomain)).Allow("name of a Secret").Describe("certificate authority of that proxy: key `ca.crt` of a Secret", agent),
	}
	for i := range table {
		table[i] = table[i].Mark(notYet)
		if section := conf.SectionOf(table[i].Name); section != "egress" {
			table[i] = table[i].Within(section)
		}
	}
	return table
}

func checkEgress(s *Settings) error {
	const proxy = "egress.upstream_proxy"
	l, v := s.loaded, s.Egress
	var mistakes []error
	if l.Present(proxy) {
		if !l.Set(proxy + ".url") {
			mistakes = append(mistakes, l.TableMistake(proxy, "needs url"))
		}
		if v.Mode != egressNFT {
			mistakes = append(mistakes, l.TableMistake(proxy, `needs egress.mode = "dns+nft"`))
		}
		if v.UpstreamProxy.CASecretName != "" && s.Runtime.Type == RuntimeDocker {
			mistakes = append(mistakes, l.Mistake(proxy+".ca_secret_name", "is for Kubernetes only; use ca_cert_path"))
		}
		if v.UpstreamProxy.CACertPath != "" && s.Runtime.Type == RuntimeKubernetes {
			mistakes = append(mistakes, l.Mistake(proxy+".ca_cert_path", "is for Docker only; use ca_secret_name"))
		}
	}
	for name, request := range v.Requests {
		limit, ok := v.Limits[name]
		if ok && amountOf(request) > amountOf(limit) {
			mistakes = append(mistakes, l.Mistake("egress.requests", fmt.Sprintf("%s: %s is more than the limit %s", name, request, limit)))
		}
	}
	return errors.Join(mistakes...)
}

// webAddress takes an http or https URL. It must have no user: addresses are shown, secrets are not.
func webAddress(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("expected an http:// or https:// URL with a host and without user and password")
	}
	return nil
}

// proxyAddress takes scheme, host and port, with nothing behind but a slash.
func proxyAddress(s string) error {
	wrong := errors.New("expected http:// or https:// with a host, perhaps a port from 1 to 65535, and nothing else")
	u, err := url.Parse(s)
	if err != nil || webAddress(s) != nil || u.Path != "" && u.Path != "/" || strings.ContainsAny(s, "?#") {
		return wrong
	}
	host := u.Hostname()
	if strings.Contains(u.Host, "[") {
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return wrong
		}
	} else if hostName(host) != nil {
		return wrong
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return wrong
		}
	}
	return nil
}

func oneLine(s string) error {
	if strings.ContainsAny(s, "\r\n\x00") {
		return errors.New("expected text on one line")
	}
	return nil
}

// certificatePath goes into a bind of the engine, where a colon would end it.
func certificatePath(s string) error {
	if !path.IsAbs(s) || strings.ContainsAny(s, ":\x00") {
		return errors.New("expected an absolute path without a colon")
	}
	return nil
}
