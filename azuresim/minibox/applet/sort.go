package applet

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func sortCmd(c *call) {
	f, ok := c.flags("nrufk:t:s", map[string]byte{"numeric-sort": 'n', "reverse": 'r', "unique": 'u', "ignore-case": 'f', "key": 'k', "field-separator": 't', "stable": 's'})
	if !ok {
		return
	}
	field, fieldEnd := 0, 0
	if f.has('k') {
		from, to, ranged := strings.Cut(f.last('k', ""), ",")
		var err1, err2 error
		field, err1 = strconv.Atoi(from)
		if fieldEnd = 0; ranged {
			fieldEnd, err2 = strconv.Atoi(to)
		}
		if err1 != nil || err2 != nil || field < 1 || ranged && fieldEnd < field {
			c.usagef("invalid key '%s'", f.last('k', ""))
			return
		}
	}
	separator := f.last('t', "")
	if f.has('t') && len(separator) != 1 {
		c.usagef("the separator must be one character: '%s'", separator)
		return
	}
	var all []string
	c.eachInput(c.args, func(_ string, r io.Reader) error {
		return lines(r, func(line []byte, _ bool) bool {
			all = append(all, string(line))
			return true
		})
	})
	key := func(line string) string {
		if field > 0 {
			parts := strings.Fields(line)
			joint := " "
			if separator != "" {
				parts, joint = strings.Split(line, separator), separator
			}
			end := len(parts)
			if fieldEnd > 0 {
				end = min(end, fieldEnd)
			}
			line = ""
			if field <= end {
				line = strings.Join(parts[field-1:end], joint)
			}
		}
		if f.has('f') {
			line = strings.ToUpper(line)
		}
		return line
	}
	compare := func(a, b string) int {
		ka, kb := key(a), key(b)
		r := strings.Compare(ka, kb)
		if f.has('n') {
			na, nb := leadingNumber(ka), leadingNumber(kb)
			switch {
			case na < nb:
				r = -1
			case na > nb:
				r = 1
			default:
				r = 0
			}
		}
		if r == 0 && !f.has('u') && !f.has('s') {
			r = strings.Compare(a, b)
		}
		if f.has('r') {
			r = -r
		}
		return r
	}
	slices.SortStableFunc(all, compare)
	for i, line := range all {
		if f.has('u') && i > 0 && compare(all[i-1], line) == 0 {
			continue
		}
		fmt.Fprintln(c.out, line)
	}
}

var numberPrefix = regexp.MustCompile(`^\s*-?[0-9]*\.?[0-9]*`)

func leadingNumber(s string) float64 {
	v, _ := strconv.ParseFloat(strings.TrimSpace(numberPrefix.FindString(s)), 64)
	return v
}
