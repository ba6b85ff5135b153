//go:build integration

package integration

import (
	"net"
	"net/http"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/jupyter/jupytertest"
)

// jupyterImage is built by scripts/images.sh.
const jupyterImage = "opensandbox/debian-jupyter:dev"

// TestJupyterPassesTheSuite runs against a real Jupyter server with real kernels.
func TestJupyterPassesTheSuite(t *testing.T) {
	t.Parallel()
	token := secrettest.New("the token of Jupyter")
	name := "execdtest-jupyter-" + suffix
	docker(t, "run", "-d", "--name", name, "-e", "JUPYTER_IP=0.0.0.0", "-e", "JUPYTER_TOKEN="+token, "-p", "127.0.0.1::44771", jupyterImage)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(docker(t, "logs", name))
		}
		docker(t, "rm", "-f", name)
	})
	host, port, err := net.SplitHostPort(docker(t, "port", name, "44771/tcp"))
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + net.JoinHostPort(host, port)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if res, err := probe.Get(url + "/api"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("Jupyter does not answer")
		}
	}
	jupytertest.Test(t, url, token, secrettest.New("a wrong token of Jupyter"))
}
