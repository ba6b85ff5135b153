package sandbox

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"opensandbox/libs/fault"
)

// Bounds of client metadata. OpenSandbox 1.1.1 bounds single keys and values only; the total is ours, so that one record cannot
// fill a store.
const (
	maxLabelPrefix   = 253
	maxLabelName     = 63
	maxLabelValue    = 63
	MaxMetadataItems = 256
)

// ReservedPrefix is the prefix of keys that belong to the system.
const ReservedPrefix = "opensandbox.io/"

// The patterns are the Kubernetes label rules as OpenSandbox 1.1.1 applies them, with \z in place of Python's lax $.
var (
	labelPrefix = regexp.MustCompile(`^(?:[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\.)*[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\z`)
	labelName   = regexp.MustCompile(`^[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?\z`)
)

// CheckMetadata checks the metadata of a create. All faulty entries are named, in the order of their keys, up to ten.
func CheckMetadata(m map[string]string) error {
	if err := CheckMetadataSize(m); err != nil {
		return err
	}
	var details []fault.Detail
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		problem := keyProblem(k)
		if problem == "" {
			problem = valueProblem(m[k])
		}
		if problem != "" && len(details) < 10 {
			details = append(details, fault.Detail{Field: "metadata[" + shorten(k) + "]", Problem: problem})
		}
	}
	if len(details) == 0 {
		return nil
	}
	return fault.Newf(fault.Invalid, "metadata is not valid: %s: %s", details[0].Field, details[0].Problem).
		WithCode(CodeInvalidLabel).WithDetails(details...)
}

// CheckMetadataPatch checks a merge patch: keys of the system may not even be removed; other keys that are removed are not
// checked, so that anything that ever got in can be taken out.
func CheckMetadataPatch(patch map[string]*string) error {
	set := make(map[string]string, len(patch))
	for k, v := range patch {
		if strings.HasPrefix(k, ReservedPrefix) {
			return fault.Newf(fault.Invalid, "metadata key %q is reserved: keys under %s belong to the system", shorten(k), ReservedPrefix).
				WithCode("INVALID_METADATA_LABEL")
		}
		if v != nil {
			set[k] = *v
		}
	}
	return CheckMetadata(set)
}

// CheckMetadataSize checks the number of entries.
func CheckMetadataSize(m map[string]string) error {
	if len(m) > MaxMetadataItems {
		return fault.Newf(fault.Invalid, "metadata has %d entries; at most %d are allowed", len(m), MaxMetadataItems).WithCode(CodeInvalidLabel)
	}
	return nil
}

func keyProblem(k string) string {
	if strings.HasPrefix(k, ReservedPrefix) {
		return "keys under " + ReservedPrefix + " are reserved for the system"
	}
	name := k
	if prefix, rest, ok := strings.Cut(k, "/"); ok {
		if len(prefix) > maxLabelPrefix || !labelPrefix.MatchString(prefix) {
			return "the part before / must be a DNS subdomain in lower case of at most 253 characters"
		}
		name = rest
	}
	if len(name) > maxLabelName || !labelName.MatchString(name) {
		return "a key name has 1 to 63 characters of A-Z a-z 0-9 - _ . and starts and ends with a letter or digit"
	}
	return ""
}

func valueProblem(v string) string {
	if v == "" || (len(v) <= maxLabelValue && labelName.MatchString(v)) {
		return ""
	}
	return "a value has at most 63 characters of A-Z a-z 0-9 - _ . and starts and ends with a letter or digit"
}

func shorten(s string) string {
	if len(s) <= 80 {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:80], ""), len(s))
}
