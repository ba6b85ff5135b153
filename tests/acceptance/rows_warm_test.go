//go:build e2e

package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// warmUps are as many as a pool of the published client has under way at once, and warmUpPause is the pause between two of its creates, both
// by default (OpenSandbox 1.1.1).
const (
	warmUps     = 128
	warmUpPause = time.Second / 10
)

// A pool that fills up gets no 5xx at any step: create, endpoints, ping, renewal.
func TestRow19WarmUpsOfAPool(t *testing.T) {
	s := start(t, "")
	var all sync.WaitGroup
	pace := time.NewTicker(warmUpPause)
	defer pace.Stop()
	for range warmUps {
		<-pace.C
		all.Go(func() {
			if err := s.warmUp(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.eventually("all are Running", func() bool { return len(s.items("state=Running")) == warmUps })
	left := make(chan string, warmUps)
	for _, i := range s.items("") {
		left <- i["id"].(string)
	}
	close(left)
	for range 8 {
		all.Go(func() {
			for id := range left {
				s.eventuallyDeleted(id)
			}
		})
	}
	all.Wait()
}

// eventuallyDeleted deletes a sandbox, again if the answer is that the removal takes its time.
func (s *server) eventuallyDeleted(id string) {
	for deadline := time.Now().Add(patience); ; waitABit() {
		a, err := s.try("DELETE", "/v1/sandboxes/"+id, nil)
		if err == nil && (a.status == http.StatusNoContent || a.status == http.StatusNotFound) {
			return
		}
		if err != nil || a.status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			s.t.Errorf("delete: %v %v", a, err)
			return
		}
	}
}

// warmUp makes the requests of a pool for one sandbox.
func (s *server) warmUp() error {
	a, err := s.try("POST", "/v1/sandboxes", spec(m{"timeout": 86400, "resourceLimits": m{"cpu": "50m", "memory": "32Mi"}}))
	if err != nil || a.status != http.StatusAccepted {
		return fmt.Errorf("create: %v, error %v", a, err)
	}
	var created struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(a.body, &created); err != nil {
		return fmt.Errorf("create: %v, error %v", a, err)
	}
	one := "/v1/sandboxes/" + created.ID
	var at struct {
		Endpoint string `json:"endpoint"`
	}
	for _, port := range []int{18080, 44772} {
		a, err := s.warmEndpoint(fmt.Sprintf("%s/endpoints/%d?use_server_proxy=false", one, port))
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("endpoint of %d: %v, error %v", port, a, err)
		}
		if err := json.Unmarshal(a.body, &at); err != nil {
			return fmt.Errorf("endpoint of %d: %v: %w", port, a, err)
		}
	}
	if a, err := request("GET", "http://"+at.Endpoint+"/ping", nil); err != nil || a.status != http.StatusOK {
		return fmt.Errorf("ping: %v, error %v", a, err)
	}
	a, err = s.try("POST", one+"/renew-expiration", m{"expiresAt": time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339Nano)})
	if err != nil || a.status != http.StatusOK {
		return fmt.Errorf("renew: %v, error %v", a, err)
	}
	return nil
}

// warmEndpoint asks for an endpoint until the sandbox has an address: a create that takes long is answered while it is Pending.
func (s *server) warmEndpoint(path string) (answer, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second / 5) {
		a, err := s.try("GET", path, nil)
		noAddress := a.status == http.StatusNotFound && bytes.Contains(a.body, []byte(`"KUBERNETES::POD_IP_NOT_AVAILABLE"`))
		if err != nil || !noAddress || time.Now().After(deadline) {
			return a, err
		}
	}
}
