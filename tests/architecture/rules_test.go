package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// load lists all packages of the workspace with what they import when they are built with tags.
func load(t *testing.T, tags string) []Package {
	t.Helper()
	type listed struct {
		ImportPath, Dir string
		Standard        bool
		Imports, Deps   []string
	}
	cmd := exec.Command("go", "list", "-deps", "-tags", tags, "-json=ImportPath,Dir,Standard,Imports,Deps", "work")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	standard := map[string]bool{}
	var ours []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		standard[l.ImportPath] = l.Standard
		if strings.HasPrefix(l.ImportPath, root) {
			ours = append(ours, l)
		}
	}
	var out2 []Package
	for _, l := range ours {
		out2 = append(out2, Package{Path: l.ImportPath, Dir: l.Dir, Imports: l.Imports, Deps: l.Deps, Standard: standard})
	}
	return out2
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, tags := range []string{"", "sabotage"} {
		packages := load(t, tags)
		if len(packages) < 20 {
			t.Fatalf("only %d packages were found with tags %q", len(packages), tags)
		}
		for _, p := range packages {
			for _, f := range Check(p) {
				t.Errorf("tags %q: %s", tags, f)
			}
		}
	}
}

// TestPeopleGetNoSabotage shows that no program has the sabotaged ports in it unless it is built for the tests that want them.
func TestPeopleGetNoSabotage(t *testing.T) {
	t.Parallel()
	const sabotage = root + "libs/sabotage"
	reach := func(tags string) (by []string) {
		for _, p := range load(t, tags) {
			if strings.Contains(p.Path, "/cmd/opensandbox-") && slices.Contains(p.Deps, sabotage) {
				by = append(by, p.Path)
			}
		}
		return by
	}
	if by := reach(""); len(by) > 0 {
		t.Errorf("these reach %s: %q", sabotage, by)
	}
	if by := reach("sabotage"); len(by) != 5 {
		t.Errorf("with the tag, these reach %s: %q; want the single binary and four services", sabotage, by)
	}
}

func TestTheRulesCanFail(t *testing.T) {
	t.Parallel()
	std := map[string]bool{"fmt": true, "net/http": true}
	for name, p := range map[string]Package{
		"domain knows a store":                 {Path: "opensandbox/libs/sandbox", Imports: []string{"opensandbox/libs/memstore"}},
		"domain uses a library":                {Path: "opensandbox/libs/sandbox", Imports: []string{"github.com/x/y"}},
		"a store knows another":                {Path: "opensandbox/libs/sqlitestore", Imports: []string{"opensandbox/libs/memstore"}},
		"a use case speaks HTTP":               {Path: "opensandbox/services/api/internal/usecase", Deps: []string{"net/http"}},
		"a step reaches Docker":                {Path: "opensandbox/services/runtime-agent/internal/converge", Deps: []string{"github.com/docker/docker/client"}},
		"go-kit outside its glue":              {Path: "opensandbox/services/api/internal/httpapi", Imports: []string{"github.com/go-kit/kit/endpoint"}},
		"a service imports another":            {Path: "opensandbox/services/api/app", Imports: []string{"opensandbox/services/scheduler/app"}},
		"the daemon knows the records":         {Path: "opensandbox/services/execd/internal/x", Imports: []string{"opensandbox/libs/sandbox"}},
		"an app chooses a store":               {Path: "opensandbox/services/api/app", Imports: []string{"opensandbox/libs/sqlitestore"}},
		"a step of the router reaches Redis":   {Path: "opensandbox/libs/sandboxproxy/resolve", Deps: []string{"github.com/redis/go-redis/v9"}},
		"the router's steps know Prometheus":   {Path: "opensandbox/libs/sandboxproxy/renewintent", Imports: []string{"opensandbox/libs/sandboxproxy/proxymetrics"}},
		"the router's transport knows a store": {Path: "opensandbox/libs/sandboxproxy", Imports: []string{"opensandbox/libs/redisstore"}},
		"an app chooses a queue's store":       {Path: "opensandbox/services/scheduler/app", Imports: []string{"opensandbox/libs/redisstore"}},
		"a process knows a service":            {Path: "opensandbox/libs/process", Imports: []string{"opensandbox/services/api/app"}},
		"a measured store knows its store":     {Path: "opensandbox/libs/storemetrics", Deps: []string{"github.com/redis/go-redis/v9"}},
		"a name that says nothing":             {Path: "opensandbox/libs/utils"},
		"a package that nobody thought of":     {Path: "opensandbox/libs/newthing"},
	} {
		p.Standard = std
		if len(Check(p)) == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// TestNoHiddenState fails on init functions, and on asking for the time where it has to be an argument.
func TestNoHiddenState(t *testing.T) {
	t.Parallel()
	timeless := []string{"libs/sandbox", "libs/node", "libs/executor", "services/runtime-agent/internal/converge", "services/scheduler/internal/placement",
		"services/scheduler/internal/reconcile", "services/scheduler/internal/deadline"}
	for _, p := range load(t, "") {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(token.NewFileSet(), f, src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s has an init function", f)
				}
			}
			for _, rel := range timeless {
				if p.Path == root+rel && bytes.Contains(src, []byte("time.Now()")) {
					t.Errorf("%s asks for the time", f)
				}
			}
		}
	}
}

// TestSuitesStayInTests fails when product code imports a suite or a fake.
func TestSuitesStayInTests(t *testing.T) {
	t.Parallel()
	for _, p := range load(t, "") {
		for _, imp := range p.Imports {
			suite := strings.HasPrefix(imp, root) && (strings.HasSuffix(imp, "test") || strings.HasSuffix(imp, "/fakeexec"))
			if suite && !strings.HasPrefix(p.Path, root+"tests/") && !strings.HasSuffix(p.Path, "test") {
				t.Errorf("%s imports %s", p.Path, imp)
			}
		}
	}
}
