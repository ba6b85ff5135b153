package httpapi

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

func withVolumes(list string) []byte { return []byte(`{` + minimal + `,"volumes":` + list + `}`) }

func TestParseVolumes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list string
		want []sandbox.Volume
	}{
		"host": {`[{"name":"a","mountPath":"/a","host":{"path":"/srv/a"}}]`, []sandbox.Volume{{Name: "a", MountPath: "/a", Host: "/srv/a"}}},
		"what the Python client sends": {`[{"name":"a","mountPath":"/a","readOnly":true,"subPath":null,"host":null,"ossfs":null,
			"pvc":{"claimName":"c","createIfNotExists":true,"deleteOnSandboxTermination":false,"storageClass":null,"storage":null,"accessModes":null}}]`,
			[]sandbox.Volume{{Name: "a", MountPath: "/a", ReadOnly: true, Claim: &sandbox.VolumeClaim{Name: "c", Create: true}}}},
		"the shortest claim": {`[{"name":"a","mountPath":"/a","pvc":{"claimName":"c"}}]`, []sandbox.Volume{{Name: "a", MountPath: "/a", Claim: &sandbox.VolumeClaim{Name: "c", Create: true}}}},
		"all of a claim": {`[{"name":"a","mountPath":"/a","subPath":"x/y","pvc":{"claimName":"c","createIfNotExists":false,"deleteOnSandboxTermination":true}}]`,
			[]sandbox.Volume{{Name: "a", MountPath: "/a", SubPath: "x/y", Claim: &sandbox.VolumeClaim{Name: "c", Delete: true}}}},
		"snake case": {`[{"name":"a","mount_path":"/a","read_only":true,"pvc":{"claim_name":"c"}}]`, []sandbox.Volume{{Name: "a", MountPath: "/a", ReadOnly: true, Claim: &sandbox.VolumeClaim{Name: "c", Create: true}}}},
		"none":       {`[]`, nil},
		"null":       {`null`, nil},
	} {
		got, err := parseCreate(withVolumes(c.list))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got.Spec.Volumes); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestParseVolumesRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ list, field string }{
		"no list":                 {`{}`, "volumes"},
		"a list of text":          {`["a"]`, "volumes[0]"},
		"a list of nulls":         {`[null]`, "volumes[0]"},
		"no name":                 {`[{"mountPath":"/a","host":{"path":"/a"}}]`, "volumes[0].name"},
		"the second has no mount": {`[{"name":"a","mountPath":"/a","host":{"path":"/a"}},{"name":"b","host":{"path":"/a"}}]`, "volumes[1].mountPath"},
		"numeric mount":           {`[{"name":"a","mountPath":1,"host":{"path":"/a"}}]`, "volumes[0].mountPath"},
		"host is text":            {`[{"name":"a","mountPath":"/a","host":"/a"}]`, "volumes[0].host"},
		"host without a path":     {`[{"name":"a","mountPath":"/a","host":{}}]`, "volumes[0].host.path"},
		"claim without a name":    {`[{"name":"a","mountPath":"/a","pvc":{}}]`, "volumes[0].pvc.claimName"},
		"a size":                  {`[{"name":"a","mountPath":"/a","pvc":{"claimName":"c","storage":"1Gi"}}]`, "volumes[0].pvc.storage"},
		"a bucket":                {`[{"name":"a","mountPath":"/a","ossfs":{"bucket":"b"}}]`, "volumes[0].ossfs"},
		"read-only is text":       {`[{"name":"a","mountPath":"/a","readOnly":"yes","host":{"path":"/a"}}]`, "volumes[0].readOnly"},
	} {
		_, err := parseCreate(withVolumes(c.list))
		d := fault.DetailsOf(err)
		if !fault.Is(err, fault.Invalid) || len(d) == 0 || d[0].Field != c.field {
			t.Errorf("%s: %v, details %v, want the first to name %s", name, err, d, c.field)
		}
	}
}
