package applet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

func cut(c *call) {
	f, ok := c.flags("d:f:c:b:s", map[string]byte{"delimiter": 'd', "fields": 'f', "characters": 'c', "bytes": 'b', "only-delimited": 's'})
	if !ok {
		return
	}
	list := f.last('f', f.last('c', f.last('b', "")))
	in, err := ranges(list)
	if err != nil {
		c.usagef("%v", err)
		return
	}
	separator := []byte(f.last('d', "\t"))
	c.eachInput(c.args, func(_ string, r io.Reader) error {
		return lines(r, func(line []byte, _ bool) bool {
			parts, joint := [][]byte{}, []byte{}
			if f.has('f') {
				if !bytes.Contains(line, separator) {
					if !f.has('s') {
						fmt.Fprintf(c.out, "%s\n", line)
					}
					return true
				}
				parts, joint = bytes.Split(line, separator), separator
			} else {
				for i := range line {
					parts = append(parts, line[i:i+1])
				}
			}
			var keep [][]byte
			for i, p := range parts {
				if in(i + 1) {
					keep = append(keep, p)
				}
			}
			fmt.Fprintf(c.out, "%s\n", bytes.Join(keep, joint))
			return true
		})
	})
}

// ranges reads a list like 1,3-5,7- and answers whether a number is in it.
func ranges(list string) (func(int) bool, error) {
	type span struct{ from, to int }
	var spans []span
	for part := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(part, "-")
		s := span{1, 1 << 30}
		var err1, err2 error
		if from != "" {
			s.from, err1 = strconv.Atoi(from)
		}
		if to != "" {
			s.to, err2 = strconv.Atoi(to)
		}
		if !ranged {
			s.to = s.from
		}
		if err1 != nil || err2 != nil || s.from < 1 || from == "" && to == "" {
			return nil, fmt.Errorf("invalid list '%s'", list)
		}
		spans = append(spans, s)
	}
	return func(n int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return n >= s.from && n <= s.to })
	}, nil
}

func tr(c *call) {
	f, ok := c.flags("dsc", map[string]byte{"delete": 'd', "squeeze-repeats": 's', "complement": 'c'})
	if !ok || !c.need(1, 2) {
		return
	}
	if !f.has('d') && !f.has('s') && len(c.args) < 2 {
		c.usagef("missing operand after '%s'", c.args[0])
		return
	}
	from := byteSet(c.args[0])
	var in [256]bool
	for _, b := range from {
		in[b] = true
	}
	if f.has('c') {
		from = nil
		for i := range in {
			if in[i] = !in[i]; in[i] {
				from = append(from, byte(i))
			}
		}
	}
	var to [256]byte
	for i := range to {
		to[i] = byte(i)
	}
	squeeze := in
	if len(c.args) == 2 && !f.has('d') {
		set := byteSet(c.args[1])
		if len(set) == 0 {
			c.usagef("the second set must not be empty")
			return
		}
		squeeze = [256]bool{}
		for i, b := range from {
			to[b] = set[min(i, len(set)-1)]
		}
		for _, b := range set {
			squeeze[b] = true
		}
	}
	buf := make([]byte, 32<<10)
	last := -1
	for {
		n, err := os.Stdin.Read(buf)
		for _, b := range buf[:n] {
			if f.has('d') && in[b] {
				continue
			}
			b = to[b]
			if f.has('s') && squeeze[b] && last == int(b) {
				continue
			}
			last = int(b)
			c.out.bytes(b)
		}
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			c.fail("", err)
			return
		}
	}
}

// byteSet expands ranges, escapes and the classes of tr.
func byteSet(s string) []byte {
	for class, chars := range map[string]string{"[:lower:]": "a-z", "[:upper:]": "A-Z", "[:digit:]": "0-9", "[:alpha:]": "A-Za-z", "[:alnum:]": "0-9A-Za-z", "[:space:]": `\t\n\v\f\r `} {
		s = strings.ReplaceAll(s, class, chars)
	}
	s, _ = unescape(s)
	var set []byte
	for i := 0; i < len(s); i++ {
		if i+2 < len(s) && s[i+1] == '-' && s[i+2] >= s[i] {
			for b := int(s[i]); b <= int(s[i+2]); b++ {
				set = append(set, byte(b))
			}
			i += 2
			continue
		}
		set = append(set, s[i])
	}
	return set
}
