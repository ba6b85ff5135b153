package httpapi

import (
	"encoding/json"
	"fmt"

	"opensandbox/libs/sandbox"
)

// parseVolumes reads the types of volumes; what their values may be is a matter of the domain, and of the configuration.
func parseVolumes(f form) []sandbox.Volume {
	var raw []json.RawMessage
	if !f.decode("volumes", &raw, "expected an array of volumes") || len(raw) == 0 {
		return nil
	}
	out := make([]sandbox.Volume, 0, len(raw))
	for i := range raw {
		name := fmt.Sprintf("volumes[%d]", i)
		one := form{prefix: f.prefix, fields: map[string]json.RawMessage{name: raw[i]}, faults: f.faults}
		v, ok := one.object(name)
		if !ok {
			if !one.present(name) {
				one.blame(name, "expected an object")
			}
			continue
		}
		out = append(out, parseVolume(v))
	}
	return out
}

func parseVolume(f form) sandbox.Volume {
	v := sandbox.Volume{ReadOnly: f.boolean("readOnly")}
	v.Name = required(f, "name")
	v.MountPath = required(f, "mountPath")
	v.SubPath, _ = f.str("subPath")
	if host, ok := f.object("host"); ok {
		v.Host = required(host, "path")
	}
	if pvc, ok := f.object("pvc"); ok {
		v.Claim = parseClaim(pvc)
	}
	if f.present("ossfs") {
		f.blame("ossfs", "not supported by this server yet; expected host or pvc")
	}
	return v
}

// required returns a text that must be there and not be empty.
func required(f form, field string) string {
	s, ok := f.str(field)
	if ok && s == "" || !f.present(field) {
		f.blame(field, "required: a string")
	}
	return s
}

func parseClaim(f form) *sandbox.VolumeClaim {
	c := &sandbox.VolumeClaim{Name: required(f, "claimName"), Create: true, Delete: f.boolean("deleteOnSandboxTermination")}
	if f.present("createIfNotExists") {
		c.Create = f.boolean("createIfNotExists")
	}
	for _, field := range []string{"storageClass", "storage", "accessModes"} {
		if f.present(field) {
			f.blame(field, "has no meaning on the docker runtime; leave it out")
		}
	}
	return c
}
