package jupyter_test

import (
	"testing"

	"go.uber.org/goleak"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/jupyter/jupytertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakePassesTheSuite(t *testing.T) {
	t.Parallel()
	token := secrettest.New("the token of Jupyter")
	jupytertest.Test(t, jupytertest.NewFake(t, token).URL, token, secrettest.New("a wrong token of Jupyter"))
}
