package docker

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// Labels of our containers: immutable facts only, since labels cannot be changed. The id has the name of OpenSandbox 1.1.1, for tools; its
// other labels are never set, because they would make a server of that kind act on our containers.
const (
	labelID = "opensandbox.io/id"

	prefix            = "dev.opensandbox."
	labelInstallation = prefix + "installation"
	labelNode         = prefix + "node"
	labelEpoch        = prefix + "epoch"
	labelTenant       = prefix + "tenant"
	labelCreated      = prefix + "created-at"
	labelDeadline     = prefix + "first-deadline"
	// labelOf is on a volume that was made for a sandbox and shall go with it: the id of the sandbox, whose epoch and creation are beside it.
	labelOf = prefix + "volume-of"
	// labelClaim begins the labels of a container that name the volumes of the engine that it uses, wholly or in part.
	labelClaim = prefix + "volume."
	// labelRole tells what else of ours a thing is; sandboxes have none.
	labelRole = prefix + "role"
)

func (e *Engine) labels(p executor.Plan) map[string]string {
	l := map[string]string{
		labelID: string(p.ID), labelInstallation: e.cfg.Installation, labelNode: e.cfg.Node,
		labelEpoch: strconv.FormatUint(p.Epoch, 10), labelCreated: p.CreatedAt.UTC().Format(time.RFC3339Nano),
	}
	if p.Tenant != "" {
		l[labelTenant] = p.Tenant
	}
	if !p.Deadline.IsZero() {
		l[labelDeadline] = p.Deadline.UTC().Format(time.RFC3339Nano)
	}
	for _, v := range p.Volumes {
		if v.Claim != nil {
			l[labelClaim+v.Claim.Name] = v.Name
		}
	}
	return l
}

// ours reports whether labels are those of a sandbox of this installation and node.
func (e *Engine) ours(l map[string]string) bool {
	return l[labelInstallation] == e.cfg.Installation && l[labelNode] == e.cfg.Node && l[labelID] != "" && l[labelRole] == ""
}

// parseLabels reads what labels writes.
func parseLabels(l map[string]string) (executor.Instance, error) {
	in := executor.Instance{Ref: executor.Ref{ID: sandbox.ID(l[labelID])}, Tenant: l[labelTenant]}
	if in.ID == "" {
		return in, errors.New("label " + labelID + " is missing")
	}
	var err error
	if in.Epoch, err = strconv.ParseUint(l[labelEpoch], 10, 64); err != nil {
		return in, fmt.Errorf("label %s: %w", labelEpoch, err)
	}
	if in.CreatedAt, err = time.Parse(time.RFC3339Nano, l[labelCreated]); err != nil {
		return in, fmt.Errorf("label %s: %w", labelCreated, err)
	}
	if d := l[labelDeadline]; d != "" {
		if in.Deadline, err = time.Parse(time.RFC3339Nano, d); err != nil {
			return in, fmt.Errorf("label %s: %w", labelDeadline, err)
		}
	}
	return in, nil
}

func containerName(id sandbox.ID) string { return "sandbox-" + string(id) }
