package fields

import (
	"fmt"
	"strings"
)

// Markdown returns the page of the documentation that the table makes: docs/commands/options.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Options of docker run and docker create\n\n" +
		"Made from the table in engine/fields (`go test ./engine/fields -run TestMarkdown -update`). *Refused* is refused when the\n" +
		"container is created, by name and with the reason; *warning* is accepted, and `docker run` says what is different;\n" +
		"*inert* has no meaning here and changes nothing.\n\n")
	b.WriteString("| docker run | API field | what becomes of it | |\n|---|---|---|---|\n")
	for _, r := range table {
		flag := ""
		if r.Flag != "" {
			flag = "`" + r.Flag + "`"
		}
		verdict := string(r.Verdict)
		if len(r.Values) > 0 {
			verdict += ", but for `" + strings.Join(r.Values, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", flag, r.Path, verdict, r.Note)
	}
	return b.String()
}
