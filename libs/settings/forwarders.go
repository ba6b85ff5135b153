package settings

import (
	"net/netip"
	"strings"
)

// forwardersVariable names the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, in OpenSandbox 1.1.1: addresses and networks
// with commas between them, or * alone for all. Unset it is the loopback, empty it is nobody.
const forwardersVariable = "FORWARDED_ALLOW_IPS"

// forwarders reads the variable. What is neither address nor network matches no peer, as in OpenSandbox 1.1.1, and is worth a warning.
func forwarders(lookup func(string) (string, bool)) (trusted []netip.Prefix, warnings []string) {
	text, ok := lookup(forwardersVariable)
	switch {
	case !ok:
		text = "127.0.0.1,::1"
	case strings.TrimSpace(text) == "*":
		text = "0.0.0.0/0,::/0"
	}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
			trusted = append(trusted, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil || p != p.Masked() {
			warnings = append(warnings, forwardersVariable+": one of its words is neither an address nor a network such as 10.0.0.0/8, and matches nobody")
			continue
		}
		trusted = append(trusted, p)
	}
	return trusted, warnings
}
