package images

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// expandAll splits what follows an instruction into words, and expands each.
func expandAll(rest string, env []string) ([]string, error) {
	words, err := split(rest)
	if err != nil {
		return nil, err
	}
	for i, w := range words {
		if words[i], err = expand(w, env); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// split cuts at spaces outside of quotes, and leaves quotes and backslashes where they are.
func split(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote rune
	escaped, begun := false, false
	for _, r := range s {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case unicode.IsSpace(r):
			if begun {
				out = append(out, word.String())
				word.Reset()
				begun = false
			}
			continue
		}
		word.WriteRune(r)
		begun = true
	}
	if quote != 0 {
		return nil, changeError("unexpected end of statement while looking for matching quote")
	}
	if begun {
		out = append(out, word.String())
	}
	return out, nil
}

// expand removes quotes and backslashes from a word and fills in $name, ${name}, ${name:-word} and ${name:+word}.
func expand(word string, env []string) (string, error) {
	e := expander{rest: word, env: env}
	var out strings.Builder
	for e.rest != "" {
		r, size := e.next()
		switch r {
		case '\'':
			literal, rest, ok := strings.Cut(e.rest[size:], "'")
			if !ok {
				return "", changeError("unexpected end of statement while looking for matching single-quote")
			}
			out.WriteString(literal)
			e.rest = rest
		case '"':
			e.rest = e.rest[size:]
			if err := e.quoted(&out); err != nil {
				return "", err
			}
		case '\\':
			e.rest = e.rest[size:]
			if e.rest == "" {
				out.WriteByte('\\')
				continue
			}
			_, n := e.next()
			out.WriteString(e.rest[:n])
			e.rest = e.rest[n:]
		case '$':
			value, err := e.variable()
			if err != nil {
				return "", err
			}
			out.WriteString(value)
		default:
			out.WriteString(e.rest[:size])
			e.rest = e.rest[size:]
		}
	}
	return out.String(), nil
}

type expander struct {
	rest string
	env  []string
}

func (e *expander) next() (rune, int) { return utf8.DecodeRuneInString(e.rest) }

// quoted reads to the closing double quote.
func (e *expander) quoted(out *strings.Builder) error {
	for e.rest != "" {
		switch c := e.rest[0]; c {
		case '"':
			e.rest = e.rest[1:]
			return nil
		case '$':
			value, err := e.variable()
			if err != nil {
				return err
			}
			out.WriteString(value)
		case '\\':
			if len(e.rest) > 1 && strings.IndexByte("\"$\\", e.rest[1]) >= 0 {
				out.WriteByte(e.rest[1])
				e.rest = e.rest[2:]
				continue
			}
			fallthrough
		default:
			out.WriteByte(c)
			e.rest = e.rest[1:]
		}
	}
	return changeError("unexpected end of statement while looking for matching double-quote")
}

// variable reads what begins with a $.
func (e *expander) variable() (string, error) {
	s := e.rest[1:]
	if !strings.HasPrefix(s, "{") {
		n := nameLength(s)
		e.rest = s[n:]
		if n == 0 {
			return "$", nil
		}
		value, _ := e.lookup(s[:n])
		return value, nil
	}
	s = s[1:]
	n := nameLength(s)
	body, rest, ok := strings.Cut(s[n:], "}")
	if n == 0 || !ok {
		return "", changeError("syntax error: missing '}' or name after ${")
	}
	e.rest = rest
	value, set := e.lookup(s[:n])
	if body == "" {
		return value, nil
	}
	modifier, word := body[:1], body[1:]
	if modifier == ":" && word != "" {
		set = set && value != ""
		modifier, word = word[:1], word[1:]
	}
	switch modifier {
	case "-":
		if set {
			return value, nil
		}
		return word, nil
	case "+":
		if set {
			return word, nil
		}
		return "", nil
	}
	return "", changeError("unsupported modifier (" + bounded(body) + ") in substitution")
}

func (e *expander) lookup(name string) (string, bool) {
	for _, pair := range e.env {
		if n, v, _ := strings.Cut(pair, "="); n == name {
			return v, true
		}
	}
	return "", false
}

func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		if c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' {
			continue
		}
		return i
	}
	return len(s)
}
