package settings

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"opensandbox/libs/conf"
)

// Examples are the kinds of files that Example writes, those of OpenSandbox 1.1.1; the empty one has every section, with all keys left out.
func Examples() []string { return []string{"docker", "docker-zh", "k8s", "k8s-zh"} }

// Example returns a configuration file in which every key that matters to the kind is explained. It is valid as it is: what is not set is
// a comment with the default.
func Example(kind string) (string, error) {
	if kind != "" && !slices.Contains(Examples(), kind) {
		return "", fmt.Errorf("expected one of %s", strings.Join(Examples(), ", "))
	}
	base, chinese := strings.CutSuffix(kind, "-zh")
	w := exampleWriter{values: exampleValues(base), words: english}
	if chinese {
		w.words = simplifiedChinese
	}
	s := Default("~", ProcessServer)
	table := slices.DeleteFunc(keys(&s, "~"), func(k conf.Key) bool { return k.About == "" })
	w.comment(w.words.title)
	for _, section := range conf.Sections(table) {
		if slices.Contains(leftOut[base], section) {
			continue
		}
		if err := w.section(section, table); err != nil {
			return "", err
		}
	}
	return w.out.String(), nil
}

// leftOut are the sections that do not go together with a kind.
var leftOut = map[string][]string{
	"docker": {"kubernetes", "kubernetes.execd_init_resources", "agent_sandbox", "tenants", "ingress.gateway", "ingress.gateway.route", "ingress.secure_access", "egress.upstream_proxy"},
	"k8s":    {"docker"},
}

// exampleValues are the keys that a kind sets.
func exampleValues(base string) map[string]any {
	both := map[string]any{
		"server.port": int64(8080), "log.level": "INFO", "proxy.resolve_internal": true, "store.type": StoreSQLite, "store.path": "~/.opensandbox/opensandbox.db",
		"ingress.mode": ingressDirect, "renew_intent.enabled": false, "renew_intent.min_interval_seconds": int64(60),
	}
	var more map[string]any
	switch base {
	case "docker":
		more = map[string]any{
			"server.host": "127.0.0.1", "server.max_sandbox_timeout_seconds": int64(86400), "runtime.type": RuntimeDocker,
			"storage.allowed_host_paths": []string{}, "docker.network_mode": NetworkBridge, "docker.port_range_min": int64(40000), "docker.port_range_max": int64(60000),
			"docker.drop_capabilities": Default("~", ProcessServer).Docker.DropCapabilities, "docker.no_new_privileges": true, "docker.apparmor_profile": "",
			"docker.seccomp_profile": "", "docker.pids_limit": int64(4096),
		}
	case "k8s":
		more = map[string]any{
			"server.host": "0.0.0.0", "runtime.type": RuntimeKubernetes, "kubernetes.kubeconfig_path": "~/.kube/config", "kubernetes.namespace": "opensandbox",
			"kubernetes.informer_resync_seconds": int64(300), "kubernetes.informer_watch_timeout_seconds": int64(60), "kubernetes.workload_provider": providerBatch,
			"kubernetes.batchsandbox_template_file": "~/batchsandbox-template.yaml", "kubernetes.image_pull_policy": "IfNotPresent", "renew_intent.redis.enabled": false,
		}
	default:
		return map[string]any{"docker.network_mode": NetworkBridge}
	}
	for name, value := range both {
		more[name] = value
	}
	return more
}

// words are the texts of one language.
type words struct {
	title string
	// about returns what a key means, and the heading of a section.
	about    func(conf.Key) string
	section  func(string) string
	allowed  string
	fallback string
	variable string
	ours     string
	notYet   string
	// comma and stop part facts and end them.
	comma, stop string
	mine        func(string) string
}

var english = words{
	title: "Configuration of opensandbox-server. Keys behind a # without a space are not set: what they show is the default, or a form to fill in.\n" +
		"Each key has an environment variable that goes over it. --check-config names all mistakes; --print-config shows what holds.",
	about:   func(k conf.Key) string { return k.About },
	section: func(name string) string { return sectionTexts[name].english },
	allowed: "Allowed: ", fallback: "Default: ", variable: "Variable: ", ours: "not in OpenSandbox 1.1.1", notYet: notYet, comma: ". ", stop: ".",
	mine: func(s string) string { return s },
}

// width is where comments are broken.
const width = 110

type exampleWriter struct {
	out    strings.Builder
	values map[string]any
	words  words
}

// comment writes text in lines that begin with #, broken at spaces.
func (w *exampleWriter) comment(text string) {
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := "#"
		for word := range strings.FieldsSeq(paragraph) {
			if columns(line)+1+columns(word) > width && line != "#" {
				fmt.Fprintln(&w.out, line)
				line = "#"
			}
			line += " " + word
		}
		fmt.Fprintln(&w.out, line)
	}
}

// capital makes a sentence of a text of the documentation.
func capital(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

// columns is how wide a text is on a terminal: Chinese characters take two columns.
func columns(s string) int {
	n := 0
	for _, r := range s {
		if n++; r > 0x2e80 {
			n++
		}
	}
	return n
}

// section writes a table. Its head is a comment where its presence alone would have a meaning.
func (w *exampleWriter) section(name string, table []conf.Key) error {
	own := slices.DeleteFunc(slices.Clone(table), func(k conf.Key) bool { return conf.SectionOf(k.Name) != name })
	sets := slices.ContainsFunc(own, func(k conf.Key) bool { _, ok := w.values[k.Name]; return ok })
	w.out.WriteString("\n")
	if text := w.words.section(name); text != "" {
		w.comment(text)
	}
	mark := ""
	if !sets && own[0].Optional != "" {
		mark = "#"
	}
	fmt.Fprintf(&w.out, "%s[%s]\n", mark, name)
	for _, k := range own {
		if err := w.key(k); err != nil {
			return err
		}
	}
	return nil
}

func (w *exampleWriter) key(k conf.Key) error {
	text, isOurs := strings.CutPrefix(plain(w.words.about(k)), plain(ours))
	w.out.WriteString("\n")
	var notes []string
	if isOurs || strings.HasPrefix(k.About, ours) {
		notes = append(notes, w.words.ours)
	}
	if k.Note == notYet || k.Remark != "" {
		notes = append(notes, w.words.notYet)
	}
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, "; ") + ")"
	}
	w.comment(capital(strings.TrimRight(text, ".")) + w.words.stop)
	facts := []string{w.words.allowed + w.words.mine(plain(k.Allowed))}
	if k.Default != "" && k.Default != "–" {
		facts = append(facts, w.words.fallback+w.words.mine(plain(k.Default)))
	}
	facts = append(facts, w.words.variable+k.EnvironmentVariable())
	w.comment(strings.Join(facts, w.words.comma) + w.words.stop)
	name := k.Name[strings.LastIndexByte(k.Name, '.')+1:]
	if value, ok := w.values[k.Name]; ok {
		return w.assign("", name, value)
	}
	return w.assign("#", name, placeholder(k))
}

func (w *exampleWriter) assign(mark, name string, value any) error {
	text, isForm := value.(form)
	if !isForm {
		literal, err := conf.Literal(value)
		if err != nil {
			return fmt.Errorf("example of %s: %w", name, err)
		}
		text = form(literal)
	}
	fmt.Fprintf(&w.out, "%s%s = %s\n", mark, name, text)
	return nil
}

// placeholder is what stands in a comment: the default, or an empty value of the right kind.
func placeholder(k conf.Key) any {
	switch k.Name {
	case "agent.node":
		return "node-1" // not the name of the machine that writes the file
	case "ingress.secure_access.keys":
		return form("[{ key_id = 'a', key = 'BASE64' }]")
	case "server.max_sandbox_timeout_seconds":
		return int64(86400) // without it there is no bound, which no number says
	}
	switch v := k.Get().(type) {
	case conf.Secret:
		return ""
	case []string:
		if v == nil {
			return []string{}
		}
	}
	return k.Get()
}

// form is TOML that is no value of a key.
type form string

// plain is a text of the documentation without its marks.
func plain(s string) string { return strings.NewReplacer("`", "", "*", "", `\"`, `"`).Replace(s) }
