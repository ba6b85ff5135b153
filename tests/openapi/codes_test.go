package openapi_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// internal are codes that no client ever gets: they travel between the parts of the platform.
var internal = []string{"SANDBOX::STALE", "NODE::TAKEN", "EXECUTOR::PORT_TAKEN", "STORE::RECOVERING", "STORE::WENT_BACK"}

// general are the codes of statuses for errors that have none of their own. The API's errors of these statuses have.
var general = []string{"CONFLICT", "TOO_MANY_REQUESTS", "UNAUTHENTICATED"}

// ways are how error codes stand in the sources.
var ways = []*regexp.Regexp{
	regexp.MustCompile(`"([A-Z]+::[A-Z_]+)"`),
	regexp.MustCompile(`WithCode\("([A-Z_]+)"\)`),
	regexp.MustCompile(`\b[cC]ode[A-Z]\w*\s*=\s*"([A-Z_]+)"`),
	regexp.MustCompile(`http\.Status\w+, "([A-Z_]+)"`),
}

// codes returns the error codes in the sources below the folders, each with a file that has it.
func codes(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, way := range ways {
				for _, m := range way.FindAllStringSubmatch(string(text), -1) {
					found[m[1]] = path
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, code := range internal {
		delete(found, code)
	}
	return found
}

// inBackquotes returns the words in backquotes that look like error codes.
func inBackquotes(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, m := range regexp.MustCompile("`([A-Z]+(?:::|_)[A-Z_]+|[A-Z]{5,})`").FindAllStringSubmatch(string(text), -1) {
		words = append(words, m[1])
	}
	return words
}

// The page for users has every error code that can reach one.
func TestEveryCodeIsExplained(t *testing.T) {
	t.Parallel()
	explained := inBackquotes(t, "../../docs/errors.md")
	found := codes(t, "libs", "services")
	if len(found) < 50 {
		t.Fatalf("only %d codes were found", len(found))
	}
	for code, file := range found {
		if !slices.Contains(explained, code) {
			t.Errorf("%s of %s is not in docs/errors.md", code, file)
		}
	}
}

// The OpenAPI document has every error code of the API, and none that there is not.
func TestEveryCodeIsDocumented(t *testing.T) {
	t.Parallel()
	documented := inBackquotes(t, "../../services/api/internal/httpapi/openapi/openapi.json")
	all := codes(t, "libs", "services")
	of := codes(t, "services/api", "libs/sandbox", "libs/executor", "libs/redisstore", "libs/sqlitestore", "libs/kitx")
	for code, file := range of {
		if !slices.Contains(documented, code) && !slices.Contains(general, code) {
			t.Errorf("%s of %s is not in openapi.json", code, file)
		}
	}
	for _, code := range documented {
		// The names of reasons become codes in one place.
		if _, ok := all[code]; !ok && code != "NODE_UNREACHABLE" && !strings.HasPrefix(code, "OPENSANDBOX_") {
			t.Errorf("%s of openapi.json is in no source", code)
		}
	}
}
