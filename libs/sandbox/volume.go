package sandbox

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"opensandbox/libs/fault"
)

// Volume is a directory, or a file, that outlives the sandbox or is shared with others. It has one back end: Host or Claim.
type Volume struct {
	// Name tells the volumes of one sandbox apart.
	Name string `json:"name"`
	// MountPath is where it is in the sandbox: absolute, without . and .. and doubled slashes.
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
	// SubPath is the part of the back end that is mounted, relative to it; empty: all of it.
	SubPath string `json:"subPath,omitempty"`
	// Host is a path of the node, absolute and tidy.
	Host string `json:"host,omitempty"`
	// Claim is a volume that the runtime keeps.
	Claim *VolumeClaim `json:"claim,omitempty"`
}

// VolumeClaim names a volume of the runtime, such as a named volume of Docker.
type VolumeClaim struct {
	Name string `json:"name"`
	// Create makes it if it is missing.
	Create bool `json:"create,omitempty"`
	// Delete removes it with the sandbox, if it was made for this sandbox, as soon as nothing else uses it.
	Delete bool `json:"delete,omitempty"`
}

// Wire codes of volumes, those of OpenSandbox 1.1.1.
const (
	CodeVolumeDuplicate      = "VOLUME::DUPLICATE_NAME"
	CodeVolumeName           = "VOLUME::INVALID_NAME"
	CodeVolumeBackend        = "VOLUME::INVALID_BACKEND"
	CodeVolumeMountPath      = "VOLUME::INVALID_MOUNT_PATH"
	CodeVolumeClaim          = "VOLUME::INVALID_PVC_NAME"
	CodeVolumeSubPath        = "VOLUME::INVALID_SUB_PATH"
	CodeVolumeHostPath       = "VOLUME::INVALID_HOST_PATH"
	CodeVolumeNotAllowed     = "VOLUME::HOST_PATH_NOT_ALLOWED"
	CodeVolumeHostCreate     = "VOLUME::HOST_PATH_CREATE_FAILED"
	CodeVolumeClaimNotFound  = "VOLUME::PVC_NOT_FOUND"
	CodeVolumeClaimFailed    = "VOLUME::PVC_INSPECT_FAILED"
	CodeVolumeSubPathSupport = "VOLUME::PVC_SUBPATH_UNSUPPORTED_DRIVER"
)

// volumeReasons are what a failed create shows when a volume was the cause, with the wire code of the error that a waiting client gets.
// Those in volumeFailures are no mistake of the client.
var (
	volumeReasons = map[string]string{
		"VOLUME_HOST_PATH_NOT_ALLOWED":          CodeVolumeNotAllowed,
		"VOLUME_HOST_PATH_CREATE_FAILED":        CodeVolumeHostCreate,
		"VOLUME_INVALID_SUB_PATH":               CodeVolumeSubPath,
		"VOLUME_INVALID_MOUNT_PATH":             CodeVolumeMountPath,
		"VOLUME_INVALID_PVC_NAME":               CodeVolumeClaim,
		"VOLUME_PVC_NOT_FOUND":                  CodeVolumeClaimNotFound,
		"VOLUME_PVC_INSPECT_FAILED":             CodeVolumeClaimFailed,
		"VOLUME_PVC_SUBPATH_UNSUPPORTED_DRIVER": CodeVolumeSubPathSupport,
	}
	volumeFailures = []string{CodeVolumeHostCreate, CodeVolumeClaimFailed}
)

// VolumeReason returns what a failed create shows for the wire code of a volume's error.
func VolumeReason(code string) (reason string, ok bool) {
	rest, ok := strings.CutPrefix(code, "VOLUME::")
	reason = "VOLUME_" + rest
	return reason, ok && volumeReasons[reason] == code
}

// VolumeFault is VolumeReason the other way round: the error for what a failed create shows.
func VolumeFault(reason, text string) (err *fault.Error, ok bool) {
	code, ok := volumeReasons[reason]
	if !ok {
		return nil, false
	}
	kind := fault.Invalid
	if slices.Contains(volumeFailures, code) {
		kind = fault.Internal
	}
	return fault.New(kind, text).WithCode(code), true
}

// MaxVolumes bounds the volumes of a sandbox.
const MaxVolumes = 64

// maxPath bounds paths, as Linux does.
const maxPath = 4096

// The names of OpenSandbox 1.1.1: labels of DNS.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?\z`)

const (
	maxVolumeName = 63
	maxClaimName  = 253
)

// Directories of a sandbox that are ours, and those in which the kernel shows itself. What is mounted over them would take the place of
// the daemon or lie to it; / is refused by every runtime.
var (
	ownDirs    = []string{"/opt/opensandbox", "/run/opensandbox"}
	kernelDirs = []string{"/proc", "/sys"}
)

// CheckVolumes checks the form of the volumes of a sandbox, in the order of OpenSandbox 1.1.1, and tidies their paths. allowed are the
// directories of nodes below which host paths must be, as far as that can be said without looking at a node: the agent looks again.
func CheckVolumes(volumes []Volume, allowed []string) ([]Volume, error) {
	if len(volumes) > MaxVolumes {
		return nil, volumeError("volumes", CodeVolumeBackend, fmt.Sprintf("expected at most %d volumes", MaxVolumes))
	}
	out, names, mounts := make([]Volume, 0, len(volumes)), map[string]bool{}, map[string]bool{}
	for i, v := range volumes {
		field := fmt.Sprintf("volumes[%d].", i)
		if names[v.Name] {
			return nil, volumeError(field+"name", CodeVolumeDuplicate, "another volume has the same name")
		}
		names[v.Name] = true
		v, err := checkVolume(field, v, allowed)
		if err != nil {
			return nil, err
		}
		if mounts[v.MountPath] {
			return nil, volumeError(field+"mountPath", CodeVolumeMountPath, "another volume is mounted there")
		}
		mounts[v.MountPath] = true
		out = append(out, v)
	}
	return out, nil
}

func checkVolume(field string, v Volume, allowed []string) (Volume, error) {
	if len(v.Name) > maxVolumeName || !dnsLabel.MatchString(v.Name) {
		return v, volumeError(field+"name", CodeVolumeName, "expected 1 to 63 characters of a-z, 0-9 and -, not beginning or ending with -")
	}
	var problem string
	if v.MountPath, problem = tidyMount(v.MountPath); problem != "" {
		return v, volumeError(field+"mountPath", CodeVolumeMountPath, problem)
	}
	if v.SubPath, problem = tidySub(v.SubPath); problem != "" {
		return v, volumeError(field+"subPath", CodeVolumeSubPath, problem)
	}
	switch {
	case (v.Host == "") == (v.Claim == nil):
		return v, volumeError(strings.TrimSuffix(field, "."), CodeVolumeBackend, "expected exactly one of host and pvc")
	case v.Claim != nil:
		if len(v.Claim.Name) > maxClaimName || !dnsLabel.MatchString(v.Claim.Name) {
			return v, volumeError(field+"pvc.claimName", CodeVolumeClaim, "expected 1 to 253 characters of a-z, 0-9 and -, not beginning or ending with -")
		}
		if strings.HasPrefix(v.Claim.Name, ReservedClaims) {
			return v, volumeError(field+"pvc.claimName", CodeVolumeClaim, "names that begin with "+ReservedClaims+" belong to the server")
		}
		return v, nil
	}
	if problem := hostProblem(v.Host); problem != "" {
		return v, volumeError(field+"host.path", CodeVolumeHostPath, problem)
	}
	if !HostAllowed(path.Join(v.Host, v.SubPath), allowed) {
		return v, volumeError(field+"host.path", CodeVolumeNotAllowed, "storage.allowed_host_paths of the server does not name it, nor a directory above it")
	}
	return v, nil
}

// ReservedClaims begins the names of the volumes that the platform keeps for itself, such as the one with the daemon.
const ReservedClaims = "opensandbox-"

// tidyMount returns a path in the sandbox in its shortest form, or what is wrong with it.
func tidyMount(p string) (tidy, problem string) {
	if !strings.HasPrefix(p, "/") || !printable(p) {
		return p, "expected an absolute path"
	}
	if slices.Contains(strings.Split(p, "/"), "..") {
		return p, "must not contain .."
	}
	p = path.Clean(p)
	for _, dir := range ownDirs {
		if p == dir || within(p, dir) || within(dir, p) {
			return p, "the server keeps " + dir + " for itself"
		}
	}
	for _, dir := range kernelDirs {
		if p == dir || within(p, dir) {
			return p, dir + " belongs to the kernel"
		}
	}
	return p, ""
}

// tidySub returns a relative path in its shortest form, empty for the whole, or what is wrong with it.
func tidySub(p string) (tidy, problem string) {
	switch {
	case p == "":
		return "", ""
	case strings.HasPrefix(p, "/") || !printable(p):
		return p, "expected a relative path"
	case slices.Contains(strings.Split(p, "/"), ".."):
		return p, "must not contain .."
	}
	if p = path.Clean(p); p == "." {
		return "", ""
	}
	return p, ""
}

// hostProblem says what is wrong with a path of a node, empty if nothing is.
func hostProblem(p string) string {
	switch {
	case !strings.HasPrefix(p, "/") || !printable(p):
		return "expected an absolute path"
	case p != path.Clean(p):
		return "must not contain . or .. or //, nor end with /"
	}
	return ""
}

// printable refuses what no path can hold, and what would make a mess of logs.
func printable(p string) bool {
	return len(p) < maxPath && !strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// within reports whether p lies below dir, both tidy.
func within(p, dir string) bool {
	return dir == "/" && p != "/" || strings.HasPrefix(p, dir+"/")
}

// HostAllowed reports whether a tidy path is one of the allowed ones or lies below one. Nothing is allowed by an empty list. It knows
// nothing of symbolic links.
func HostAllowed(p string, allowed []string) bool {
	return slices.ContainsFunc(allowed, func(dir string) bool {
		dir = path.Clean(dir)
		return strings.HasPrefix(dir, "/") && (p == dir || within(p, dir))
	})
}

func volumeError(field, code, problem string) error {
	return fault.New(fault.Invalid, field+": "+problem).WithCode(code).WithDetails(fault.Detail{Field: field, Problem: problem})
}
