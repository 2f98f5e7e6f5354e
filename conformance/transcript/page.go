//go:build linux

package transcript

import (
	"fmt"
	"strings"
)

// Engine is the dockerd that the recorded answers are from.
const Engine = "20.10.24"

// Markdown returns the part of docs/conformance.md that the scripts and Known make.
func Markdown() (string, error) {
	scripts, err := Scripts()
	if err != nil {
		return "", err
	}
	calls := 0
	for _, s := range scripts {
		calls += len(s.Calls)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n# Raw calls\n\n"+
		"%d calls of the Engine API in version %s, recorded from Docker Engine %s and asked of Sockerless: status, headers that clients\n"+
		"read, and bodies ([conformance/transcript](../conformance/transcript)). Ids, times, sizes and addresses are replaced by words.\n"+
		"These are all the differences; `*` stands for any text, and a cell that is empty for any answer.\n\n"+
		"| calls | where | Docker Engine | Sockerless | why |\n|---|---|---|---|---|\n", calls, Version, Engine)
	for _, e := range Known {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", list(e.Calls), list(e.At), value(e.Docker), value(e.Ours), cell(e.Why))
	}
	for _, s := range scripts {
		fmt.Fprintf(&b, "\n## Calls: %s\n\n", s.Name)
		for i, c := range s.Calls {
			if i > 0 {
				b.WriteString(" · ")
			}
			b.WriteString(c.Name)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// list is a list of patterns in a table's cell.
func list(patterns string) string {
	parts := strings.Split(patterns, "|")
	for i := range parts {
		parts[i] = value(parts[i])
	}
	return strings.Join(parts, "<br>")
}

func value(pattern string) string {
	if pattern == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(cell(pattern), "`", "'") + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
