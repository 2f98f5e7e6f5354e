package applet

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

func grep(c *call) {
	f, ok := c.flags("EFGivnclqorwxhHse:m:", map[string]byte{"extended-regexp": 'E', "fixed-strings": 'F', "ignore-case": 'i', "invert-match": 'v',
		"line-number": 'n', "count": 'c', "files-with-matches": 'l', "quiet": 'q', "only-matching": 'o', "recursive": 'r', "word-regexp": 'w',
		"line-regexp": 'x', "regexp": 'e', "max-count": 'm', "no-filename": 'h', "with-filename": 'H', "no-messages": 's'})
	if !ok {
		return
	}
	patterns := f['e']
	if len(patterns) == 0 {
		if !c.need(1, -1) {
			return
		}
		patterns, c.args = c.args[:1], c.args[1:]
	}
	var alternatives []string
	for _, p := range patterns {
		for one := range strings.SplitSeq(p, "\n") {
			switch {
			case f.has('F'):
				one = regexp.QuoteMeta(one)
			case !f.has('E'):
				one = basicRegexp(one)
			}
			alternatives = append(alternatives, "(?:"+one+")")
		}
	}
	expr := strings.Join(alternatives, "|")
	if f.has('w') {
		expr = `\b(?:` + expr + `)\b`
	}
	if f.has('x') {
		expr = `^(?:` + expr + `)$`
	}
	if f.has('i') {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		c.usagef("invalid regular expression: %v", err)
		return
	}
	most, err := count(f.last('m', "9223372036854775807"))
	if err != nil {
		c.usagef("%v", err)
		return
	}
	names := c.args
	if f.has('r') {
		if names = c.walkFiles(names); len(names) == 0 {
			c.status = 1
			return
		}
	}
	withName := (len(names) > 1 || f.has('r') || f.has('H')) && !f.has('h')
	matched := false
	quietErrors := c.status
	c.eachInput(names, func(name string, r io.Reader) error {
		if name == "-" {
			name = "(standard input)"
		}
		prefix := ""
		if withName {
			prefix = name + ":"
		}
		at, hits := 0, int64(0)
		err := lines(r, func(line []byte, _ bool) bool {
			at++
			if re.Match(line) == f.has('v') {
				return true
			}
			hits++
			matched = true
			if f.has('q') || f.has('l') {
				return false
			}
			if !f.has('c') {
				number := prefix
				if f.has('n') {
					number += strconv.Itoa(at) + ":"
				}
				if f.has('o') && !f.has('v') {
					for _, m := range re.FindAll(line, -1) {
						if len(m) > 0 {
							fmt.Fprintf(c.out, "%s%s\n", number, m)
						}
					}
				} else {
					fmt.Fprintf(c.out, "%s%s\n", number, line)
				}
			}
			return hits < most
		})
		switch {
		case f.has('q'):
		case f.has('l') && hits > 0:
			fmt.Fprintln(c.out, name)
		case f.has('c') && !f.has('l'):
			fmt.Fprintf(c.out, "%s%d\n", prefix, hits)
		}
		return err
	})
	switch {
	case c.status != quietErrors && (!f.has('q') || !matched):
		c.status = 2
	case matched:
		c.status = 0
	default:
		c.status = 1
	}
}

// basicRegexp turns a POSIX basic expression into Go's syntax: \( \) \{ \} \| \+ \? are the operators there, their bare
// forms are letters, and * at the start of an expression is a letter too.
func basicRegexp(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; ch {
		case '\\':
			if i++; i == len(s) {
				b.WriteString(`\\`)
			} else if strings.IndexByte("(){}|+?", s[i]) >= 0 {
				b.WriteByte(s[i])
			} else {
				b.WriteByte('\\')
				b.WriteByte(s[i])
			}
		case '(', ')', '{', '}', '|', '+', '?':
			b.WriteByte('\\')
			b.WriteByte(ch)
		case '*':
			if i == 0 || strings.HasSuffix(s[:i], `\(`) || strings.HasSuffix(s[:i], `\|`) || i == 1 && s[0] == '^' {
				b.WriteByte('\\')
			}
			b.WriteByte(ch)
		case '[':
			// A bracket expression ends at the first ] that is not its first character.
			j := i + 1
			if j < len(s) && s[j] == '^' {
				j++
			}
			if j < len(s) && s[j] == ']' {
				j++
			}
			for j < len(s) && s[j] != ']' {
				if s[j] == '[' && j+1 < len(s) && s[j+1] == ':' {
					if end := strings.Index(s[j:], ":]"); end > 0 {
						j += end + 1
					}
				}
				j++
			}
			if j >= len(s) {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString(strings.ReplaceAll(s[i:j+1], `\`, `\\`))
			i = j
		default:
			b.WriteByte(ch)
		}
	}
	return b.String()
}
