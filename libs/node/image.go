package node

import "strings"

// CanonicalImage writes an image reference out in full, as Docker does: busybox is docker.io/library/busybox:latest. A digest goes over a
// tag. Two references that mean the same image have the same canonical form; text that is no reference comes back in some form.
func CanonicalImage(ref string) string {
	if strings.HasPrefix(ref, "sha256:") {
		return ref // the id of an image, which has no name
	}
	name, digest, pinned := strings.Cut(ref, "@")
	host, path, found := strings.Cut(name, "/")
	if !found || (!strings.ContainsAny(host, ".:") && host != "localhost" && strings.ToLower(host) == host) {
		host, path = "docker.io", name
	}
	if host == "index.docker.io" {
		host = "docker.io"
	}
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	colon := strings.LastIndexByte(path, ':')
	tagged := colon > strings.LastIndexByte(path, '/')
	switch {
	case pinned && tagged:
		path = path[:colon] + "@" + digest
	case pinned:
		path += "@" + digest
	case !tagged:
		path += ":latest"
	}
	return host + "/" + path
}
