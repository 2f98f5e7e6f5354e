//go:build linux

package conformance

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sockerless/sockerless/conformance/transcript"
)

// Engine is the dockerd that the table's answers are from.
const Engine = "20.10.24"

// Markdown returns the page that the table makes: docs/conformance.md.
func Markdown() (string, error) {
	var b strings.Builder
	cases := Cases()
	differ := 0
	for _, c := range cases {
		if c.Ours != nil {
			differ++
		}
	}
	fmt.Fprintf(&b, "# Conformance\n\n"+
		"Made from the table in [conformance](../conformance) (`go test ./conformance -run TestPage -update`), where each case has its\n"+
		"script. `make test` holds Sockerless to it, the docker CLI and all parts but Azure being real; `make conformance` holds the\n"+
		"dockerd of this machine to it too. The answers are those of Docker Engine "+Engine+" (Debian 12) by the docker CLI 28.2: %d cases,\n"+
		"%d of them answered in the same way to the byte, %d not. Names, ids and times are replaced by words.\n\n", len(cases), len(cases)-differ, differ)
	b.WriteString("## Differences\n\n| case | Docker Engine | Sockerless | why |\n|---|---|---|---|\n")
	for _, c := range cases {
		if c.Ours != nil {
			fmt.Fprintf(&b, "| %s: %s | %s | %s | %s |\n", c.Group, cell(c.Name), c.Want.cell(), c.Ours.cell(), cell(c.Why))
		}
	}
	group := ""
	for _, c := range cases {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&b, "\n## %s\n\n| case | Docker Engine | Sockerless |\n|---|---|---|\n", group)
		}
		ours := "same"
		if c.Ours != nil {
			ours = c.Ours.cell()
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(c.Name), c.Want.cell(), ours)
	}
	calls, err := transcript.Markdown()
	b.WriteString(calls)
	return b.String(), err
}

// cell is an answer in a table's cell. What is long is cut in its middle.
func (a Answer) cell() string {
	var parts []string
	if a.Code != 0 {
		parts = append(parts, fmt.Sprintf("**%d**", a.Code))
	}
	for _, s := range []struct{ name, text string }{{"", a.Out}, {"stderr ", a.Err}} {
		if s.text != "" {
			parts = append(parts, s.name+"`"+strings.ReplaceAll(middle(strconv.Quote(s.text)), "`", "'")+"`")
		}
	}
	if len(parts) == 0 {
		return "0, nothing"
	}
	return cell(strings.Join(parts, " "))
}

func middle(s string) string {
	const keep = 90
	if r := []rune(s); len(r) > 2*keep {
		return string(r[:keep]) + " … " + string(r[len(r)-keep:])
	}
	return s
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
