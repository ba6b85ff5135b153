package docker

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"

	"opensandbox/libs/sandbox"
)

// shown is what a registry is shown for one pull.
type shown struct {
	auth registry.AuthConfig
	// own says that the credentials come from the configuration of Docker's client, and not from the request.
	own bool
}

// credentials are the parts of it that must not be seen. A token is a password without a user.
func (s shown) credentials() sandbox.Credentials {
	return sandbox.Credentials{Username: s.auth.Username, Password: cmp.Or(s.auth.Password, s.auth.IdentityToken, s.auth.RegistryToken)}
}

// logins is a configuration file of Docker's client, as "docker login" writes it. It is read anew for each pull, so that a login needs no
// restart. Of its parts only auths is used: programs that keep credentials elsewhere (credsStore, credHelpers) are not run.
type logins struct {
	path string
}

// keptElsewhere is the error of a registry whose credentials may be kept by a program that is not run. Most images need none, so this is no news
// with each pull.
type keptElsewhere struct{ path, host, program string }

func (k keptElsewhere) Error() string {
	return fmt.Sprintf("%s: credentials of %s may be kept by another program, %q (credsStore, credHelpers), which is not asked; only auths is used", k.path, k.host, k.program)
}

// maxLogins bounds the configuration file, in bytes.
const maxLogins = 1 << 20

// loginsFile is the part of the file that says what registries are shown.
type loginsFile struct {
	Auths   map[string]loginsEntry `json:"auths"`
	Store   string                 `json:"credsStore"`
	Helpers map[string]string      `json:"credHelpers"`
}

// loginsEntry has user and password as one word in base64, as two words, or a token.
type loginsEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// of returns what the registry of an image is shown; nothing if the file does not exist or has nothing for it. The error says what keeps
// the file from being used, and repeats nothing of its credentials.
func (l logins) of(img string) (registry.AuthConfig, error) {
	named, err := reference.ParseNormalizedNamed(img)
	if l.path == "" || err != nil {
		return registry.AuthConfig{}, nil // the engine will say what is wrong with the name
	}
	file, err := l.read()
	if err != nil {
		return registry.AuthConfig{}, fmt.Errorf("%s: %w", l.path, err)
	}
	host := reference.Domain(named)
	auth, err := file.find(host)
	switch {
	case err != nil:
		return registry.AuthConfig{}, fmt.Errorf("%s: auths of %s: %w", l.path, host, err)
	case auth == (registry.AuthConfig{}) && (file.Store != "" || file.Helpers[host] != ""):
		return auth, keptElsewhere{path: l.path, host: host, program: cmp.Or(file.Helpers[host], file.Store)}
	}
	return auth, nil
}

func (l logins) read() (loginsFile, error) {
	var out loginsFile
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, errors.New("cannot be read: " + why(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxLogins {
		return out, errors.New("is no file of a usual size")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxLogins))
	if err != nil {
		return out, errors.New("cannot be read: " + why(err))
	}
	if json.Unmarshal(text, &out) != nil { // its error could repeat a part of the text
		return loginsFile{}, errors.New("is not a configuration of Docker's client in JSON")
	}
	return out, nil
}

// why is an error of the file system without the path, which is told already.
func why(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// find returns the entry of a registry: the one that is called as the host is, else one whose URL has it as host.
func (f loginsFile) find(host string) (registry.AuthConfig, error) {
	if e, ok := f.Auths[host]; ok {
		return e.config()
	}
	// Entries are tried in no order: two URLs of one host differ in what registries no longer look at.
	for name, e := range f.Auths {
		if hostOf(name) == host {
			return e.config()
		}
	}
	return registry.AuthConfig{}, nil
}

// hostOf returns the registry that an entry is for. Clients have written URLs such as https://index.docker.io/v1/.
func hostOf(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	host, _, _ := strings.Cut(name, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}

func (e loginsEntry) config() (registry.AuthConfig, error) {
	out := registry.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return out, nil
	}
	clear, err := base64.StdEncoding.DecodeString(e.Auth)
	user, password, ok := strings.Cut(string(clear), ":")
	if err != nil || !ok {
		return registry.AuthConfig{}, errors.New("auth is not user:password in base64")
	}
	out.Username, out.Password = user, strings.TrimRight(password, "\x00")
	if out.IdentityToken != "" {
		out.Password = "" // such an entry's password has no meaning
	}
	return out, nil
}
