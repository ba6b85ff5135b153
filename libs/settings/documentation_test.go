package settings

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"opensandbox/libs/conf"
)

var update = flag.Bool("update", false, "write the table of keys in docs/configuration.md")

const (
	document   = "../../docs/configuration.md"
	tableBegin = "<!-- keys: written by TestDocumentation -->\n"
	tableEnd   = "<!-- end of keys -->\n"
)

func TestDocumentation(t *testing.T) {
	t.Parallel()
	s := Default("~", ProcessServer)
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table of keys", document)
	}
	want := before + tableBegin + conf.Reference(keys(&s, "~")) + tableEnd + after
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(b) {
		t.Errorf("%s is not what the keys say: run go test ./settings -run TestDocumentation -update in libs", document)
	}
}

// TestTable looks for slips in the table of keys.
func TestTable(t *testing.T) {
	t.Parallel()
	s := Default("~", ProcessServer)
	table := keys(&s, "~")
	variables, used := map[string]string{}, []string{api, scheduler, agent, router, all}
	for _, k := range table {
		v := k.Variable
		if v == "" {
			v = conf.VariableOf(k.Name)
		}
		if other, twice := variables[v]; twice {
			t.Errorf("%s and %s share the variable %s", k.Name, other, v)
		}
		variables[v] = k.Name
		if (k.Get != nil) != (k.About != "") {
			t.Errorf("%s: a key with a value needs a description, and only such a key", k.Name)
		}
		if k.About != "" && (len(k.UsedBy) == 0 || k.Allowed == "") {
			t.Errorf("%s: nobody uses it, or nothing is allowed", k.Name)
		}
		for _, u := range k.UsedBy {
			if !slices.Contains(used, u) {
				t.Errorf("%s: used by %q, which is no service", k.Name, u)
			}
		}
	}
	for _, name := range append(names(), foreign...) {
		if key, taken := variables[name]; taken {
			t.Errorf("%s is the variable of %s and of something else", name, key)
		}
	}
}
