package httpapi

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Extensions that bound where a sandbox runs and what becomes of it there. The first is that of OpenSandbox 1.1.1, the others are ours.
const (
	extRenew   = "access.renew.extend.seconds"
	extLabels  = "node.labels"
	extLost    = "node.lost"
	extRuntime = "node.runtime"
)

// Bounds of extRenew in OpenSandbox 1.1.1, in seconds.
const (
	minExtend = 300
	maxExtend = 86400
)

// maxNodeLabels bounds the labels that a create may ask for; no node has that many.
const maxNodeLabels = 32

// The names are those that agents can have for labels and runtimes.
var (
	nodeLabelName  = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,126}\z`)
	nodeLabelValue = regexp.MustCompile(`^[A-Za-z0-9._-]{0,63}\z`)
	runtimeName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}\z`)
)

// archAliases are the names that engines have for architectures, besides those of OpenSandbox 1.1.1.
var archAliases = map[string]string{
	"amd64": "amd64", "x86_64": "amd64", "x86-64": "amd64",
	"arm64": "arm64", "aarch64": "arm64", "arm64/v8": "arm64", "arm64v8": "arm64",
}

// platformOf returns os and arch of a create, as they were written.
func platformOf(f form) (os, arch string) {
	p, ok := f.object("platform")
	if !ok {
		return "", ""
	}
	for _, field := range []string{"os", "arch"} {
		if !p.present(field) {
			p.blame(field, "required: a string")
		}
	}
	os, _ = p.str("os")
	arch, _ = p.str("arch")
	return os, arch
}

// parsePlatform returns os/arch in the spelling of OpenSandbox 1.1.1, or "" when none was asked for.
func parsePlatform(f form, os, arch string) (string, error) {
	if !f.present("platform") {
		return "", nil
	}
	os, arch = strings.ToLower(strings.TrimSpace(os)), strings.ToLower(strings.TrimSpace(arch))
	if os == "windows" {
		return "", fault.New(fault.Invalid, "platform.os: windows is not supported by this server yet").WithCode(sandbox.CodeInvalidParameter).
			WithDetails(fault.Detail{Field: "platform.os", Problem: "not supported yet"})
	}
	if os != "linux" {
		return "", badValue("platform.os", "expected linux")
	}
	known, ok := archAliases[arch]
	if !ok {
		return "", badValue("platform.arch", "expected amd64 or arm64")
	}
	return os + "/" + known, nil
}

func badValue(field, problem string) error {
	return fault.New(fault.Invalid, field+": "+problem).WithCode(sandbox.CodeInvalidParameter).
		WithDetails(fault.Detail{Field: field, Problem: problem})
}

// parseExtension reads an extension that changes the spec. ok is false for one that does not.
func parseExtension(spec *sandbox.Spec, name, value string) (ok bool, err error) {
	field := "extensions[" + name + "]"
	value = strings.TrimSpace(value)
	switch name {
	case extRenew:
		n, err := strconv.Atoi(value)
		if err != nil || n < minExtend || n > maxExtend {
			return true, badValue(field, "expected a whole number of seconds from 300 to 86400")
		}
		spec.RenewOnAccess = time.Duration(n) * time.Second
	case extLabels:
		spec.Needs.Labels, err = parseNodeLabels(field, value)
	case extLost:
		if !slices.Contains([]string{"replace", "fail"}, value) {
			return true, badValue(field, "expected replace or fail")
		}
		spec.Replace = value == "replace"
	case extRuntime:
		if !runtimeName.MatchString(value) {
			return true, badValue(field, "expected the name of an isolation runtime: 1 to 63 characters of A-Z a-z 0-9 . _ -")
		}
		spec.Needs.Runtime = value
	default:
		return false, nil
	}
	return true, err
}

// parseNodeLabels reads name=value pairs with different names, separated by commas.
func parseNodeLabels(field, s string) (map[string]string, error) {
	labels := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if _, twice := labels[name]; !ok || twice || !nodeLabelName.MatchString(name) || !nodeLabelValue.MatchString(value) {
			return nil, badValue(field, "expected name=value pairs with different names, separated by commas; names of A-Z a-z 0-9 . _ - /, values of A-Z a-z 0-9 . _ -")
		}
		labels[name] = value
	}
	if len(labels) > maxNodeLabels {
		return nil, badValue(field, "expected at most 32 pairs")
	}
	return labels, nil
}
