package usecase_test

import (
	"strings"
	"testing"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

func withVolume(v sandbox.Volume) usecase.CreateRequest {
	req := create()
	req.Spec.Volumes = []sandbox.Volume{v}
	return req
}

func TestCreateChecksVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *usecase.Config) { c.AllowedHostPaths = []string{"/srv"} })
	_, err := w.uses.Create(t.Context(), withVolume(sandbox.Volume{Name: "v", MountPath: "/v", Host: "/etc"}))
	w.want("a host path that is not allowed", err, fault.Invalid, sandbox.CodeVolumeNotAllowed)
	if !strings.Contains(fault.TextOf(err), "storage.allowed_host_paths") {
		t.Errorf("the text does not name the key: %v", err)
	}
	v, err := w.uses.Create(t.Context(), withVolume(sandbox.Volume{Name: "v", MountPath: "/v/", Host: "/srv/data"}))
	if err != nil || len(v.Record.Spec.Volumes) != 1 || v.Record.Spec.Volumes[0].MountPath != "/v" {
		t.Errorf("%+v, %v; want the volume with a tidy path", v.Record.Spec.Volumes, err)
	}
}

func TestAVolumeThatFailsOnTheNode(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]struct {
		kind fault.Kind
		code string
	}{
		"VOLUME_PVC_NOT_FOUND":           {fault.Invalid, "VOLUME::PVC_NOT_FOUND"},
		"VOLUME_HOST_PATH_NOT_ALLOWED":   {fault.Invalid, "VOLUME::HOST_PATH_NOT_ALLOWED"},
		"VOLUME_HOST_PATH_CREATE_FAILED": {fault.Internal, "VOLUME::HOST_PATH_CREATE_FAILED"},
		sandbox.ReasonHostNetworkInUse:   {fault.Conflict, "SANDBOX::HOST_NETWORK_IN_USE"},
	} {
		w := newWorld(t, nil)
		w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateFailed, reason) }
		_, err := w.uses.Create(t.Context(), create())
		w.want(reason, err, want.kind, want.code)
		if fault.TextOf(err) != "text of "+reason {
			t.Errorf("%s: %v without the agent's text", reason, err)
		}
	}
}

func TestEndpointsOnTheNodesNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.agent = func(id sandbox.ID) {
		w.place(id)
		_, err := w.store.Report(t.Context(), sandbox.Report{ID: id, Node: "n", Epoch: 1, Session: w.session, Generation: 1, State: sandbox.StateRunning,
			Addresses: sandbox.Addresses{ContainerIP: "127.0.0.1", OnHost: true, Ports: map[int]int{usecase.ExecdPort: usecase.ExecdPort, usecase.AppPort: usecase.AppPort}}})
		if err != nil {
			t.Error(err)
		}
	}
	v, err := w.uses.Create(t.Context(), create())
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]string{44772: "host:44772/proxy/44772", 8080: "host:8080", 3000: "host:3000"} {
		e, err := w.uses.Endpoint(t.Context(), usecase.EndpointRequest{Ref: usecase.Ref{ID: v.Record.ID}, Port: port})
		if err != nil || e.Address != want {
			t.Errorf("port %d: %q, %v; want %q", port, e.Address, err, want)
		}
		if _, token := e.Headers[usecase.TokenHeader]; token != (port == usecase.ExecdPort) {
			t.Errorf("port %d: headers %v", port, e.Headers)
		}
	}
}
