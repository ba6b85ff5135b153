package conf

import (
	"fmt"
	"strings"
)

// Reference writes the keys that have a description as a Markdown table. Defaults are what the keys hold at the moment.
func Reference(keys []Key) string {
	var b strings.Builder
	b.WriteString("| key | default | allowed | used by | meaning |\n|---|---|---|---|---|\n")
	for _, k := range keys {
		if k.About == "" {
			continue
		}
		about := k.About
		if k.Variable != "" {
			about += "; variable `" + k.Variable + "`"
		}
		for _, remark := range []string{k.Note, k.Remark} {
			if remark != "" {
				about += " *(" + remark + ")*"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, defaultOf(k), cell(k.Allowed), strings.Join(k.UsedBy, ", "), cell(about))
	}
	return b.String()
}

func defaultOf(k Key) string {
	switch {
	case k.Default != "":
		return cell(k.Default)
	case k.Get == nil:
		return "–"
	}
	switch v := k.Get().(type) {
	case string:
		if v != "" {
			return "`" + cell(v) + "`"
		}
	case bool, int64, float64:
		return fmt.Sprint(v)
	}
	return "–"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
