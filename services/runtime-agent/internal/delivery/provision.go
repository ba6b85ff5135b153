package delivery

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
)

const (
	imageName    = "opensandbox/execd-delivery"
	volumePrefix = "opensandbox-execd-"
	labelContent = "dev.opensandbox.execd"
	labelOwner   = "dev.opensandbox.execd-of"
)

// Provision makes sure that the engine has a volume with the daemon and returns its name. Volumes are named by installation and content
// and filled once; those of the installation's earlier versions are removed when nothing uses them any more. An installation has one of its
// own, so that no other server on the engine can take it away while no sandbox holds it. labels go on everything that is made. It can be
// repeated at any time, and fills a volume that the engine has made anew, empty, after somebody removed it.
func Provision(ctx context.Context, api *client.Client, src Source, installation string, labels map[string]string) (string, error) {
	name := installation + "-" + src.hash()
	p := provisioner{api: api, src: src, tag: imageName + ":" + name, volume: volumePrefix + name, installation: installation, labels: maps.Clone(labels)}
	p.labels[labelContent], p.labels[labelOwner] = src.hash(), installation
	if err := p.ensure(ctx); err != nil {
		return "", fmt.Errorf("deliver execd to the engine: %w", err)
	}
	p.sweep(ctx)
	return p.volume, nil
}

type provisioner struct {
	api          *client.Client
	src          Source
	tag, volume  string
	installation string
	labels       map[string]string
}

// fillTimeout bounds the creation of the container that fills the volume, which copies a file of some megabytes.
const fillTimeout = 30 * time.Second

func (p provisioner) ensure(ctx context.Context) error {
	if _, err := p.api.ImageInspect(ctx, p.tag); errdefs.IsNotFound(err) {
		if err := p.importImage(ctx); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	// The engine copies what the image has at a mount point into a volume that is empty, when a container with both is created. A process
	// that is told to end waits for the answer: what was made without one would stay until the next start.
	filling, cancel := context.WithTimeout(context.WithoutCancel(ctx), fillTimeout)
	defer cancel()
	helper, err := p.api.ContainerCreate(filling, &container.Config{Image: p.tag, Cmd: []string{Path}, Labels: p.labels}, &container.HostConfig{
		NetworkMode: "none",
		Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: p.volume, Target: Dir,
			VolumeOptions: &mount.VolumeOptions{Labels: p.labels}}},
	}, nil, nil, "")
	if err != nil {
		return fmt.Errorf("fill the volume: %w", err)
	}
	defer func() {
		_ = p.api.ContainerRemove(context.WithoutCancel(ctx), helper.ID, container.RemoveOptions{Force: true}) // swept at the next start
	}()
	return p.verify(ctx, helper.ID)
}

// importImage makes an image whose only file is the daemon.
func (p provisioner) importImage(ctx context.Context) error {
	var tape bytes.Buffer
	w := tar.NewWriter(&tape)
	dir := strings.TrimPrefix(Dir, "/")
	for _, h := range []*tar.Header{
		{Name: "opt/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: strings.TrimPrefix(Path, "/"), Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(p.src.binary))},
	} {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
	}
	if _, err := w.Write(p.src.binary); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	res, err := p.api.ImageImport(ctx, image.ImportSource{Source: &tape, SourceName: "-"}, p.tag, image.ImportOptions{
		Changes: []string{"LABEL " + labelContent + "=" + p.src.hash() + " " + labelOwner + "=" + p.installation},
	})
	if err != nil {
		return fmt.Errorf("import the image: %w", err)
	}
	defer res.Close()
	_, err = io.Copy(io.Discard, res) // the import is done when the stream ends
	return err
}

// verify reads the daemon back from the volume: a volume of that name that somebody else has made, or that was filled by half, must not
// become the first process of every sandbox.
func (p provisioner) verify(ctx context.Context, helper string) error {
	stream, _, err := p.api.CopyFromContainer(ctx, helper, Path)
	if err != nil {
		return fmt.Errorf("read execd back from volume %s: %w; remove the volume and start again", p.volume, err)
	}
	defer stream.Close()
	r := tar.NewReader(stream)
	if _, err := r.Next(); err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, p.src.binary) {
		return fmt.Errorf("volume %s does not hold this version of execd; remove the volume and start again", p.volume)
	}
	return nil
}

// sweep removes what earlier versions and unfinished deliveries have left. What is in use stays: the engine refuses.
func (p provisioner) sweep(ctx context.Context) {
	mine := filters.NewArgs(filters.Arg("label", labelOwner+"="+p.installation))
	created := mine.Clone()
	created.Add("status", container.StateCreated)
	if helpers, err := p.api.ContainerList(ctx, container.ListOptions{All: true, Filters: created}); err == nil {
		for _, h := range helpers {
			if h.Labels[labelContent] != "" {
				_ = p.api.ContainerRemove(ctx, h.ID, container.RemoveOptions{})
			}
		}
	}
	if volumes, err := p.api.VolumeList(ctx, volume.ListOptions{Filters: mine}); err == nil {
		for _, v := range volumes.Volumes {
			if v.Name != p.volume {
				_ = p.api.VolumeRemove(ctx, v.Name, false)
			}
		}
	}
	if images, err := p.api.ImageList(ctx, image.ListOptions{Filters: mine}); err == nil {
		for _, i := range images {
			for _, tag := range i.RepoTags {
				if tag != p.tag {
					_, _ = p.api.ImageRemove(ctx, tag, image.RemoveOptions{})
				}
			}
		}
	}
}
