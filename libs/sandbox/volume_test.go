package sandbox_test

import (
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

func claim(name, at string) sandbox.Volume {
	return sandbox.Volume{Name: name, MountPath: at, Claim: &sandbox.VolumeClaim{Name: "c"}}
}

func host(p, sub string) sandbox.Volume {
	return sandbox.Volume{Name: "h", MountPath: "/h", Host: p, SubPath: sub}
}

func TestCheckVolumes(t *testing.T) {
	t.Parallel()
	change := func(v sandbox.Volume, f func(*sandbox.Volume)) sandbox.Volume { f(&v); return v }
	for name, c := range map[string]struct {
		volumes []sandbox.Volume
		code    string
	}{
		"a claim":                       {[]sandbox.Volume{claim("a", "/a")}, ""},
		"a host path":                   {[]sandbox.Volume{host("/srv/data", "")}, ""},
		"a host path below":             {[]sandbox.Volume{host("/srv/data/x", "y/z")}, ""},
		"one claim twice":               {[]sandbox.Volume{claim("a", "/a"), claim("b", "/b")}, ""},
		"one below the other":           {[]sandbox.Volume{claim("a", "/a"), claim("b", "/a/b")}, ""},
		"a name twice":                  {[]sandbox.Volume{claim("a", "/a"), claim("a", "/b")}, sandbox.CodeVolumeDuplicate},
		"a mount twice":                 {[]sandbox.Volume{claim("a", "/a"), claim("b", "/a/")}, sandbox.CodeVolumeMountPath},
		"capitals":                      {[]sandbox.Volume{claim("A", "/a")}, sandbox.CodeVolumeName},
		"a newline after the name":      {[]sandbox.Volume{claim("a\n", "/a")}, sandbox.CodeVolumeName},
		"a long name":                   {[]sandbox.Volume{claim(strings.Repeat("a", 64), "/a")}, sandbox.CodeVolumeName},
		"no name":                       {[]sandbox.Volume{claim("", "/a")}, sandbox.CodeVolumeName},
		"relative mount":                {[]sandbox.Volume{claim("a", "a")}, sandbox.CodeVolumeMountPath},
		"mount with ..":                 {[]sandbox.Volume{claim("a", "/a/../b")}, sandbox.CodeVolumeMountPath},
		"mount at /":                    {[]sandbox.Volume{claim("a", "/")}, sandbox.CodeVolumeMountPath},
		"mount at ///":                  {[]sandbox.Volume{claim("a", "///")}, sandbox.CodeVolumeMountPath},
		"mount over the daemon":         {[]sandbox.Volume{claim("a", "/opt/opensandbox")}, sandbox.CodeVolumeMountPath},
		"mount above the daemon":        {[]sandbox.Volume{claim("a", "/opt")}, sandbox.CodeVolumeMountPath},
		"mount below the daemon":        {[]sandbox.Volume{claim("a", "/run/opensandbox/env")}, sandbox.CodeVolumeMountPath},
		"mount over the kernel":         {[]sandbox.Volume{claim("a", "/proc/sys")}, sandbox.CodeVolumeMountPath},
		"mount beside":                  {[]sandbox.Volume{claim("a", "/opt/opensandbox-data"), claim("b", "/process")}, ""},
		"mount with NUL":                {[]sandbox.Volume{claim("a", "/a\x00")}, sandbox.CodeVolumeMountPath},
		"a long mount":                  {[]sandbox.Volume{claim("a", "/"+strings.Repeat("a", 5000))}, sandbox.CodeVolumeMountPath},
		"absolute part":                 {[]sandbox.Volume{host("/srv/data", "/x")}, sandbox.CodeVolumeSubPath},
		"part with ..":                  {[]sandbox.Volume{host("/srv/data", "x/../../y")}, sandbox.CodeVolumeSubPath},
		"part of two dots in a name":    {[]sandbox.Volume{host("/srv/data", "..x/y..")}, ""},
		"no back end":                   {[]sandbox.Volume{{Name: "a", MountPath: "/a"}}, sandbox.CodeVolumeBackend},
		"two back ends":                 {[]sandbox.Volume{change(claim("a", "/a"), func(v *sandbox.Volume) { v.Host = "/srv/data" })}, sandbox.CodeVolumeBackend},
		"claim with a slash":            {[]sandbox.Volume{change(claim("a", "/a"), func(v *sandbox.Volume) { v.Claim = &sandbox.VolumeClaim{Name: "../etc"} })}, sandbox.CodeVolumeClaim},
		"a claim of the server":         {[]sandbox.Volume{change(claim("a", "/a"), func(v *sandbox.Volume) { v.Claim = &sandbox.VolumeClaim{Name: "opensandbox-execd-1"} })}, sandbox.CodeVolumeClaim},
		"a host path that is not tidy":  {[]sandbox.Volume{host("/srv/data//x", "")}, sandbox.CodeVolumeHostPath},
		"a host path with an end":       {[]sandbox.Volume{host("/srv/data/", "")}, sandbox.CodeVolumeHostPath},
		"a host path with ..":           {[]sandbox.Volume{host("/srv/data/../../etc", "")}, sandbox.CodeVolumeHostPath},
		"a relative host path":          {[]sandbox.Volume{host("srv/data", "")}, sandbox.CodeVolumeHostPath},
		"a drive":                       {[]sandbox.Volume{host(`C:\data`, "")}, sandbox.CodeVolumeHostPath},
		"another host path":             {[]sandbox.Volume{host("/etc", "")}, sandbox.CodeVolumeNotAllowed},
		"one that begins the same":      {[]sandbox.Volume{host("/srv/database", "")}, sandbox.CodeVolumeNotAllowed},
		"one above":                     {[]sandbox.Volume{host("/srv", "data")}, ""},
		"one above what is not allowed": {[]sandbox.Volume{host("/srv", "")}, sandbox.CodeVolumeNotAllowed},
	} {
		_, err := sandbox.CheckVolumes(c.volumes, []string{"/srv/data/"})
		if fault.CodeOf(err) != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%s: %v (%s), want code %q", name, err, fault.CodeOf(err), c.code)
		}
		if err != nil && (!fault.Is(err, fault.Invalid) || len(fault.DetailsOf(err)) != 1) {
			t.Errorf("%s: %v without the field", name, err)
		}
	}
	if _, err := sandbox.CheckVolumes([]sandbox.Volume{host("/srv/data", "")}, nil); fault.CodeOf(err) != sandbox.CodeVolumeNotAllowed {
		t.Errorf("without allowed paths: %v", err)
	}
	var many []sandbox.Volume
	for i := range sandbox.MaxVolumes + 1 {
		many = append(many, claim(fmt.Sprintf("v%d", i), fmt.Sprintf("/v%d", i)))
	}
	if _, err := sandbox.CheckVolumes(many, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("many volumes: %v", err)
	}
}

func TestPathsOfVolumesAreTidied(t *testing.T) {
	t.Parallel()
	v := claim("a", "//a/./b/")
	v.SubPath = "./x//y/"
	got, err := sandbox.CheckVolumes([]sandbox.Volume{v}, nil)
	if err != nil || got[0].MountPath != "/a/b" || got[0].SubPath != "x/y" {
		t.Errorf("%+v, %v", got, err)
	}
	v.SubPath = "./"
	if got, err = sandbox.CheckVolumes([]sandbox.Volume{v}, nil); err != nil || got[0].SubPath != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzHostPathsStayBelow(f *testing.F) {
	f.Add("/srv/data", "..")
	f.Add("/srv/data/../..", "x")
	f.Add("/srv/data/.", "./..//x")
	f.Fuzz(func(t *testing.T, p, sub string) {
		got, err := sandbox.CheckVolumes([]sandbox.Volume{host(p, sub)}, []string{"/srv/data"})
		if err != nil {
			return
		}
		full := path.Join(got[0].Host, got[0].SubPath)
		if full != "/srv/data" && !strings.HasPrefix(full, "/srv/data/") {
			t.Errorf("%q with %q leads to %q", p, sub, full)
		}
	})
}

func TestReasonsOfVolumes(t *testing.T) {
	t.Parallel()
	for code, kind := range map[string]fault.Kind{
		sandbox.CodeVolumeNotAllowed: fault.Invalid, sandbox.CodeVolumeHostCreate: fault.Internal, sandbox.CodeVolumeClaimNotFound: fault.Invalid,
		sandbox.CodeVolumeClaimFailed: fault.Internal, sandbox.CodeVolumeSubPath: fault.Invalid, sandbox.CodeVolumeSubPathSupport: fault.Invalid,
		sandbox.CodeVolumeClaim: fault.Invalid,
	} {
		reason, ok := sandbox.VolumeReason(code)
		err, back := sandbox.VolumeFault(reason, "text")
		if !ok || !back || fault.CodeOf(err) != code || !fault.Is(err, kind) {
			t.Errorf("%s became %q, %v and then %v (%s)", code, reason, ok, err, fault.CodeOf(err))
		}
	}
	for _, code := range []string{"", "VOLUME::", "VOLUME::UNKNOWN", "DOCKER::SANDBOX_START_FAILED"} {
		if reason, ok := sandbox.VolumeReason(code); ok {
			t.Errorf("%q became %q", code, reason)
		}
	}
	if _, ok := sandbox.VolumeFault(sandbox.ReasonNoCapacity, ""); ok {
		t.Error("another reason became the error of a volume")
	}
}

func TestParseGPUs(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{"1": 1, " 8 ": 8, "all": sandbox.AllGPUs, "ALL": sandbox.AllGPUs, "0": 0, "-1": 0, "+1": 0, "1.5": 0, "": 0, "some": 0, "99999999999": 0} {
		got, err := sandbox.ParseGPUs(s)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}

// TestACloneOfVolumesSharesNothing changes every part of a clone.
func TestACloneOfVolumesSharesNothing(t *testing.T) {
	t.Parallel()
	record := func() sandbox.Record {
		return sandbox.Record{Spec: sandbox.Spec{Unset: []string{"A"}, Volumes: []sandbox.Volume{claim("a", "/a"), host("/x", "")}}}
	}
	r := record()
	c := r.Clone()
	c.Spec.Unset[0], c.Spec.Volumes[0].Claim.Name, c.Spec.Volumes[1].Host = "B", "changed", "/y"
	if !reflect.DeepEqual(r, record()) {
		t.Errorf("the original has changed: %+v", r)
	}
}
