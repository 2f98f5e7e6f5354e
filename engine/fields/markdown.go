package fields

import (
	"fmt"
	"strings"
)

// Markdown returns the table as a Markdown table for the documentation, one line a row.
func Markdown() string {
	var b strings.Builder
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
