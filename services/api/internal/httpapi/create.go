package httpapi

import (
	"maps"
	"slices"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// Bounds and names of OpenSandbox 1.1.1.
const (
	minTimeout      = 60 * time.Second
	maxTimeout      = 100 * 365 * 24 * time.Hour
	extensionPrefix = "opensandbox.extensions."
	egressEnvPrefix = "OPENSANDBOX_EGRESS_"
	lifecycleEnv    = "OPENSANDBOX_LIFECYCLE"
)

// parseCreate turns the body of a create into a request. All faulty fields are reported together; after them come the fields that
// are well-formed and ask for what this server cannot do: never silently ignored, since a sandbox that is less isolated than its
// owner believes is worse than none.
func parseCreate(body []byte) (usecase.CreateRequest, error) {
	f, err := parseForm(body)
	if err != nil {
		return usecase.CreateRequest{}, err
	}
	req := usecase.CreateRequest{Metadata: f.plainTexts("metadata")}
	if err := checkSources(f); err != nil {
		return usecase.CreateRequest{}, err
	}
	req.Spec.Image, req.Credentials = parseImage(f)
	req.Spec.Entrypoint = parseEntrypoint(f)
	req.Spec.Env, req.Spec.Unset = parseEnv(f)
	req.Spec.Volumes = parseVolumes(f)
	req.Spec.Timeout = parseTimeout(f)
	limits := f.plainTexts("resourceLimits")
	if !f.present("resourceLimits") {
		f.blame("resourceLimits", `required; use {} for none`)
	}
	requests := f.plainTexts("resourceRequests")
	extensions := f.plainTexts("extensions")
	checkFlags(f)
	os, arch := platformOf(f)
	if err := f.err(); err != nil {
		return usecase.CreateRequest{}, err
	}
	if err := checkUnsupported(f); err != nil {
		return usecase.CreateRequest{}, err
	}
	if req.Spec.Needs.Platform, err = parsePlatform(f, os, arch); err != nil {
		return usecase.CreateRequest{}, err
	}
	if err := parseExtensions(&req.Spec, extensions); err != nil {
		return usecase.CreateRequest{}, err
	}
	if req.Spec.Limits, err = parseResources(limits); err != nil {
		return usecase.CreateRequest{}, err
	}
	if s, ok := limits["gpu"]; ok {
		if req.Spec.GPUs, err = sandbox.ParseGPUs(s); err != nil {
			return usecase.CreateRequest{}, err
		}
	}
	req.Spec.Requests, err = parseResources(requests)
	return req, err
}

// checkSources deals with the sources of a sandbox other than an image.
func checkSources(f form) error {
	if id, _ := f.str("templateId"); strings.TrimSpace(id) != "" {
		return missing("templateId", "templates")
	}
	if ext := f.texts("extensions"); ext["poolRef"] != nil && strings.TrimSpace(*ext["poolRef"]) != "" {
		return fault.New(fault.Invalid, "extensions.poolRef is not supported on the docker runtime").WithCode("SANDBOX::UNSUPPORTED_POOL_REF")
	}
	if id, _ := f.str("snapshotId"); strings.TrimSpace(id) != "" {
		if f.present("image") {
			return fault.New(fault.Invalid, "image and snapshotId exclude each other").
				WithDetails(fault.Detail{Field: "snapshotId", Problem: "must not be given together with image"})
		}
		return missing("snapshotId", "snapshots")
	}
	return nil
}

func parseImage(f form) (string, sandbox.Credentials) {
	img, ok := f.object("image")
	if !ok {
		if !f.present("image") {
			f.blame("image", `required: an object with uri, such as {"uri":"python:3.11"}`)
		}
		return "", sandbox.Credentials{}
	}
	uri, _ := img.str("uri")
	if strings.TrimSpace(uri) == "" {
		img.blame("uri", "required: the reference of an image")
	}
	return strings.TrimSpace(uri), parseAuth(img)
}

// maxCredential bounds user name and password: the longest in use, keys of service accounts as JSON, have 3 KiB.
const maxCredential = 16 << 10

// parseAuth reads the credentials for the registry of an image. Both words are required once there is an auth, as in OpenSandbox 1.1.1.
func parseAuth(img form) sandbox.Credentials {
	auth, ok := img.object("auth")
	if !ok {
		return sandbox.Credentials{}
	}
	word := func(name string) string {
		v, ok := auth.str(name)
		switch {
		case !auth.present(name):
			auth.blame(name, "required: a string")
		case ok && len(v) > maxCredential:
			auth.blame(name, "must have at most 16384 bytes")
		}
		return v
	}
	c := sandbox.Credentials{Username: word("username"), Password: word("password")}
	if strings.Contains(c.Username, ":") {
		auth.blame("username", "must not contain a colon (RFC 7617)")
	}
	return c
}

func parseEntrypoint(f form) []string {
	if !f.present("entrypoint") {
		f.blame("entrypoint", "required: an array with the command and its arguments")
		return nil
	}
	ep := f.strings("entrypoint")
	if len(ep) == 0 || strings.TrimSpace(ep[0]) == "" {
		f.blame("entrypoint", "must name a command")
	}
	for _, arg := range ep {
		if strings.ContainsRune(arg, 0) {
			f.blame("entrypoint", "must not contain NUL characters")
			break
		}
	}
	return ep
}

// parseEnv returns what is set, and the names whose null takes away what the operator has set for all sandboxes.
func parseEnv(f form) (out map[string]string, unset []string) {
	in := f.texts("env")
	out = make(map[string]string, len(in))
	for k, v := range in {
		switch {
		case k == "" || strings.ContainsAny(k, "=\x00"):
			f.blame("env["+clip(k)+"]", "a name must not be empty nor contain = or NUL")
		case k == lifecycleEnv:
			f.blame("env["+k+"]", "the name is reserved for the system")
		case strings.HasPrefix(k, egressEnvPrefix):
			f.blame("env["+clip(k)+"]", "settings of the egress sidecar need networkPolicy, which this server does not support yet")
		case v == nil:
			unset = append(unset, k)
		case strings.ContainsRune(*v, 0):
			f.blame("env["+clip(k)+"]", "a value must not contain NUL")
		default:
			out[k] = *v
		}
	}
	slices.Sort(unset)
	if len(out) == 0 {
		out = nil
	}
	return out, unset
}

// parseTimeout returns 0 for a sandbox without a deadline: no timeout, or null.
func parseTimeout(f form) time.Duration {
	n, ok := f.integer("timeout")
	if !ok {
		return 0
	}
	if n < int64(minTimeout.Seconds()) || n > int64(maxTimeout.Seconds()) {
		f.blame("timeout", "expected at least 60 seconds and at most 100 years; leave it out for no deadline")
		return 0
	}
	return time.Duration(n) * time.Second
}

// checkFlags looks at the types of the fields whose values decide in checkUnsupported.
func checkFlags(f form) {
	f.boolean("secureAccess")
	if cp, ok := f.object("credentialProxy"); ok {
		cp.boolean("enabled")
	}
	if f.present("networkPolicy") {
		f.object("networkPolicy")
	}
}

func checkUnsupported(f form) error {
	cp, _ := f.object("credentialProxy")
	for _, u := range []struct {
		asked       bool
		field, what string
	}{
		{f.present("networkPolicy"), "networkPolicy", "network policies"},
		{cp.fields != nil && cp.boolean("enabled"), "credentialProxy", "the credential proxy"},
		{f.boolean("secureAccess"), "secureAccess", "secure access"},
		{f.present("lifecycle"), "lifecycle", "lifecycle hooks"},
	} {
		if u.asked {
			return missing(u.field, u.what)
		}
	}
	return nil
}

// missing is the answer to a field of OpenSandbox 1.1.1 that this server does not support yet.
func missing(field, what string) error {
	return fault.Newf(fault.Invalid, "%s: %s are not supported by this server yet", field, what).WithCode(sandbox.CodeInvalidParameter).
		WithDetails(fault.Detail{Field: field, Problem: "not supported yet"})
}

// parseExtensions reads the extensions that mean something here and keeps what is handed back to clients. Unknown keys are ignored, as in
// OpenSandbox 1.1.1. They are read in the order of their keys, so that the same request always gets the same error.
func parseExtensions(spec *sandbox.Spec, in map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(in)) {
		v := in[k]
		if known, err := parseExtension(spec, k, v); known || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		switch {
		case k == "bootstrap.execd.isolation" && v == "enable":
			return fault.New(fault.Forbidden, "extensions[bootstrap.execd.isolation] gives a sandbox more privileges, which the operator of this server has not allowed; no configuration key allows it yet")
		case strings.HasPrefix(k, extensionPrefix):
			if spec.Extensions == nil {
				spec.Extensions = map[string]string{}
			}
			spec.Extensions[k] = v
		}
	}
	return nil
}

// parseResources parses cpu and memory. Other keys are ignored, as in OpenSandbox 1.1.1.
func parseResources(in map[string]string) (sandbox.Resources, error) {
	var r sandbox.Resources
	var err error
	if s, ok := in["memory"]; ok {
		if r.Memory, err = sandbox.ParseMemory(s); err != nil {
			return r, err
		}
	}
	if s, ok := in["cpu"]; ok {
		if r.CPU, err = sandbox.ParseCPU(s); err != nil {
			return r, err
		}
	}
	return r, nil
}
