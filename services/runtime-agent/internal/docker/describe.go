package docker

import (
	"context"
	"maps"
	"slices"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"

	"opensandbox/libs/executor"
)

// architectures are what engines call the machine (uname(2)), in the words of Go where they differ.
var architectures = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "armv6l": "arm", "armv7l": "arm", "i386": "386", "i686": "386",
}

// Describe asks the engine for its platform, its runtimes and its images.
func (e *Engine) Describe(ctx context.Context) (executor.Facts, error) {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	info, err := e.api.Info(ctx)
	if err != nil {
		return executor.Facts{}, classify("info", err)
	}
	images, err := e.api.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return executor.Facts{}, classify("list images", err)
	}
	arch := info.Architecture
	if a, ok := architectures[arch]; ok {
		arch = a
	}
	f := executor.Facts{Platform: info.OSType + "/" + arch, Runtimes: slices.Sorted(maps.Keys(info.Runtimes)), Images: references(images), CPUs: info.NCPU}
	if !e.local {
		f.Host = e.engineHost()
	}
	return f, nil
}

// references are the full names of images. Those of ours that carry the daemon are left out, and so is what has no name.
func references(images []image.Summary) []string {
	var out []string
	for _, i := range images {
		if i.Labels[labelRole] != "" {
			continue
		}
		for _, names := range [][]string{i.RepoTags, i.RepoDigests} {
			for _, name := range names {
				if full, ok := fullName(name); ok {
					out = append(out, full)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fullName is a reference with everything that Docker lets people leave out: registry, library and tag. ok is false for a name that is none,
// such as the "<none>:<none>" of an image that has lost its tag to another.
func fullName(name string) (full string, ok bool) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", false
	}
	return reference.TagNameOnly(named).String(), true
}
