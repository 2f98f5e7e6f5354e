package applet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func cat(c *call) {
	f, ok := c.flags("nu", map[string]byte{"number": 'n'})
	if !ok {
		return
	}
	n := 0
	c.eachInput(c.args, func(_ string, r io.Reader) error {
		if !f.has('n') {
			_, err := io.Copy(os.Stdout, r)
			return err
		}
		return lines(r, func(line []byte, newline bool) bool {
			n++
			fmt.Fprintf(c.out, "%6d\t%s", n, line)
			if newline {
				c.out.WriteByte('\n')
			}
			return true
		})
	})
}

func echo(c *call) {
	newline, escapes := true, false
	args := c.args
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == "" {
		for _, letter := range args[0][1:] {
			switch letter {
			case 'n':
				newline = false
			case 'e':
				escapes = true
			case 'E':
				escapes = false
			}
		}
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if escapes {
		var stop bool
		if text, stop = unescape(text); stop {
			newline = false
		}
	}
	c.out.WriteString(text)
	if newline {
		c.out.WriteByte('\n')
	}
}

// unescape expands echo -e's escapes; stop is \c.
func unescape(s string) (text string, stop bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if at := strings.IndexByte("abefnrtv\\", s[i]); at >= 0 {
			b.WriteByte("\a\b\x1b\f\n\r\t\v\\"[at])
			continue
		}
		switch s[i] {
		case 'c':
			return b.String(), true
		case '0', 'x':
			base, most, digits := 8, 3, "01234567"
			if s[i] == 'x' {
				base, most, digits = 16, 2, "0123456789abcdefABCDEF"
			}
			j := i + 1
			for j < len(s) && j-i <= most && strings.IndexByte(digits, s[j]) >= 0 {
				j++
			}
			v, _ := strconv.ParseUint("0"+s[i+1:j], base, 16)
			b.WriteByte(byte(v))
			i = j - 1
		default:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		}
	}
	return b.String(), false
}

// dashNumber turns the old spelling -5 into -n 5.
func dashNumber(args []string) []string {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "0123456789") == "" {
		return append([]string{"-n", args[0][1:]}, args[1:]...)
	}
	return args
}

// count reads a number with an optional k, M or G (bytes of 1024).
func count(s string) (int64, error) {
	unit := int64(1)
	digits := strings.TrimSuffix(s, "B")
	if i := len(digits) - 1; i > 0 {
		switch digits[i] {
		case 'k', 'K':
			unit = 1 << 10
		case 'm', 'M':
			unit = 1 << 20
		case 'g', 'G':
			unit = 1 << 30
		case 'b':
			unit = 512
		}
		if unit > 1 {
			digits = digits[:i]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("invalid number '%s'", s)
	}
	return n * unit, nil
}

func head(c *call) {
	c.args = dashNumber(c.args)
	f, ok := c.flags("n:c:q", map[string]byte{"lines": 'n', "bytes": 'c', "quiet": 'q'})
	if !ok {
		return
	}
	n, err := count(f.last('n', "10"))
	if f.has('c') {
		n, err = count(f.last('c', ""))
	}
	if err != nil {
		c.usagef("%v", err)
		return
	}
	first := true
	c.eachInput(c.args, func(name string, r io.Reader) error {
		if len(c.args) > 1 && !f.has('q') {
			c.title(name, first)
		}
		first = false
		if f.has('c') {
			_, err := io.CopyN(c.out, r, n)
			if err == io.EOF {
				err = nil
			}
			return err
		}
		left := n
		if left == 0 {
			return nil
		}
		return lines(r, func(line []byte, newline bool) bool {
			c.out.Write(line)
			if newline {
				c.out.WriteByte('\n')
			}
			left--
			return left > 0
		})
	})
}

func (c *call) title(name string, first bool) {
	if name == "-" {
		name = "standard input"
	}
	if !first {
		c.out.WriteByte('\n')
	}
	fmt.Fprintf(c.out, "==> %s <==\n", name)
}

func tail(c *call) {
	c.args = dashNumber(c.args)
	f, ok := c.flags("n:c:fFq", map[string]byte{"lines": 'n', "bytes": 'c', "follow": 'f', "quiet": 'q'})
	if !ok {
		return
	}
	given, bytewise := f.last('n', "10"), false
	if f.has('c') {
		given, bytewise = f.last('c', ""), true
	}
	fromStart := strings.HasPrefix(given, "+")
	n, err := count(strings.TrimLeft(given, "+-"))
	if err != nil {
		c.usagef("%v", err)
		return
	}
	names := c.args
	if len(names) == 0 {
		names = []string{"-"}
	}
	type followed struct {
		file *os.File
		name string
	}
	var files []followed
	for i, name := range names {
		file := os.Stdin
		if name != "-" {
			if file, err = os.Open(name); err != nil {
				c.fail(name, err)
				continue
			}
		}
		if len(names) > 1 && !f.has('q') {
			c.title(name, i == 0)
		}
		if fromStart {
			err = tailFrom(c, file, n, bytewise)
		} else {
			err = tailLast(c, file, n, bytewise)
		}
		if err != nil {
			c.fail(name, err)
			continue
		}
		files = append(files, followed{file, name})
	}
	if !f.has('f') && !f.has('F') || len(files) == 0 {
		return
	}
	current := len(files) - 1
	buf := make([]byte, 32<<10)
	for { // until a signal
		c.out.Flush()
		for i, ff := range files {
			// A file that shrank was truncated and is read from its start, as tail -f does.
			if st, err := ff.file.Stat(); err == nil && st.Mode().IsRegular() {
				if at, err := ff.file.Seek(0, io.SeekCurrent); err == nil && st.Size() < at {
					fmt.Fprintf(os.Stderr, "tail: %s: file truncated\n", ff.name)
					ff.file.Seek(0, io.SeekStart)
				}
			}
			for {
				n, err := ff.file.Read(buf)
				if n > 0 {
					if i != current && !f.has('q') {
						c.title(ff.name, false)
						current = i
					}
					c.out.Write(buf[:n])
					c.out.Flush()
				}
				if err != nil {
					break
				}
			}
			if f.has('F') {
				opened, err1 := ff.file.Stat()
				named, err2 := os.Stat(ff.name)
				if err1 == nil && err2 == nil && !os.SameFile(opened, named) {
					if again, err := os.Open(ff.name); err == nil {
						ff.file.Close()
						files[i].file = again
					}
				}
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// tailFrom prints from the n-th line or byte on, counted from 1.
func tailFrom(c *call, r io.Reader, n int64, bytewise bool) error {
	if bytewise {
		if _, err := io.CopyN(io.Discard, r, max(n-1, 0)); err != nil && err != io.EOF {
			return err
		}
		_, err := io.Copy(c.out, r)
		return err
	}
	at := int64(0)
	return lines(r, func(line []byte, newline bool) bool {
		if at++; at >= n {
			c.out.Write(line)
			if newline {
				c.out.WriteByte('\n')
			}
		}
		return true
	})
}

// tailLast prints the last n lines or bytes and keeps no more than them in memory.
func tailLast(c *call, file *os.File, n int64, bytewise bool) error {
	if n == 0 {
		_, err := io.Copy(io.Discard, file)
		return err
	}
	if bytewise {
		if _, err := file.Seek(-n, io.SeekEnd); err == nil {
			_, err = io.Copy(c.out, file)
			return err
		}
		file.Seek(0, io.SeekStart) // shorter than n, or a pipe
		var keep []byte
		buf := make([]byte, 64<<10)
		for {
			m, err := file.Read(buf)
			keep = append(keep, buf[:m]...)
			if over := int64(len(keep)) - n; over > 0 {
				keep = append(keep[:0], keep[over:]...)
			}
			if err == io.EOF {
				c.out.Write(keep)
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	var ring [][]byte
	next := 0
	err := lines(file, func(line []byte, newline bool) bool {
		if newline {
			line = append(slices.Clone(line), '\n')
		} else {
			line = slices.Clone(line)
		}
		if int64(len(ring)) < n {
			ring = append(ring, line)
		} else {
			ring[next] = line
			next = (next + 1) % len(ring)
		}
		return true
	})
	for i := range ring {
		c.out.Write(ring[(next+i)%len(ring)])
	}
	return err
}

func wc(c *call) {
	f, ok := c.flags("lwcm", map[string]byte{"lines": 'l', "words": 'w', "bytes": 'c', "chars": 'm'})
	if !ok {
		return
	}
	if len(f) == 0 {
		f = flags{'l': {""}, 'w': {""}, 'c': {""}}
	}
	var total [4]int64
	show := func(n [4]int64, name string) {
		var cols []string
		for i, letter := range []byte("lwmc") {
			if f.has(letter) {
				cols = append(cols, strconv.FormatInt(n[i], 10))
			}
		}
		if len(cols) > 1 {
			for i := range cols {
				cols[i] = fmt.Sprintf("%7s", cols[i])
			}
		}
		if name != "-" || len(c.args) > 0 {
			cols = append(cols, name)
		}
		fmt.Fprintln(c.out, strings.Join(cols, " "))
	}
	c.eachInput(c.args, func(name string, r io.Reader) error {
		var n [4]int64
		buf := make([]byte, 64<<10)
		inWord := false
		for {
			m, err := r.Read(buf)
			for _, b := range buf[:m] {
				if b == '\n' {
					n[0]++
				}
				space := b == ' ' || b >= '\t' && b <= '\r'
				if !space && !inWord {
					n[1]++
				}
				inWord = !space
				if utf8.RuneStart(b) {
					n[2]++
				}
			}
			n[3] += int64(m)
			if err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		for i := range n {
			total[i] += n[i]
		}
		show(n, name)
		return nil
	})
	if len(c.args) > 1 {
		show(total, "total")
	}
}

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
	case c.status != quietErrors && !(f.has('q') && matched):
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
			c.out.WriteByte(b)
		}
		if err == io.EOF {
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

func sha256sum(c *call) {
	f, ok := c.flags("cb", map[string]byte{"check": 'c', "binary": 'b'})
	if !ok {
		return
	}
	sum := func(r io.Reader) (string, error) {
		h := sha256.New()
		_, err := io.Copy(h, r)
		return hex.EncodeToString(h.Sum(nil)), err
	}
	c.eachInput(c.args, func(name string, r io.Reader) error {
		if !f.has('c') {
			s, err := sum(r)
			if err == nil {
				fmt.Fprintf(c.out, "%s  %s\n", s, name)
			}
			return err
		}
		bad := 0
		err := lines(r, func(line []byte, _ bool) bool {
			want, file, ok := strings.Cut(string(line), " ")
			if !ok || len(file) < 2 {
				c.errorf("%s: not a line of checksums", line)
				return true
			}
			file = file[1:]
			in, err := os.Open(file)
			if err != nil {
				c.fail(file, err)
				bad++
				return true
			}
			got, err := sum(in)
			in.Close()
			if err != nil || got != want {
				fmt.Fprintf(c.out, "%s: FAILED\n", file)
				bad++
			} else {
				fmt.Fprintf(c.out, "%s: OK\n", file)
			}
			return true
		})
		if bad > 0 {
			c.errorf("WARNING: %d computed checksum did NOT match", bad)
		}
		return err
	})
}

func seq(c *call) {
	var sep = "\n"
	if len(c.args) > 1 && c.args[0] == "-s" {
		sep, c.args = c.args[1], c.args[2:]
	}
	if len(c.args) > 0 && strings.HasPrefix(c.args[0], "-") && strings.Trim(c.args[0], "-.0123456789") != "" {
		c.usagef("unrecognized option '%s'", c.args[0])
		return
	}
	if !c.need(1, 3) {
		return
	}
	first, step := 1.0, 1.0
	decimals := 0
	var n [3]float64
	for i, a := range c.args {
		v, err := strconv.ParseFloat(a, 64)
		if err != nil {
			c.usagef("invalid number '%s'", a)
			return
		}
		n[i] = v
		if dot := strings.IndexByte(a, '.'); dot >= 0 {
			decimals = max(decimals, len(a)-dot-1)
		}
	}
	last := n[len(c.args)-1]
	if len(c.args) > 1 {
		first = n[0]
	}
	if len(c.args) > 2 {
		step = n[1]
	}
	if step == 0 {
		c.usagef("the increment must not be 0")
		return
	}
	for i := 0; ; i++ {
		v := first + float64(i)*step
		if step > 0 && v > last+1e-9 || step < 0 && v < last-1e-9 {
			if i > 0 {
				c.out.WriteByte('\n')
			}
			return
		}
		if i > 0 {
			c.out.WriteString(sep)
		}
		c.out.WriteString(strconv.FormatFloat(v, 'f', decimals, 64))
	}
}

func tee(c *call) {
	f, ok := c.flags("ai", map[string]byte{"append": 'a'})
	if !ok {
		return
	}
	mode := os.O_TRUNC
	if f.has('a') {
		mode = os.O_APPEND
	}
	to := []io.Writer{os.Stdout}
	for _, name := range c.args {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|mode, 0o666)
		if err != nil {
			c.fail(name, err)
			continue
		}
		defer file.Close()
		to = append(to, file)
	}
	if _, err := io.Copy(io.MultiWriter(to...), os.Stdin); err != nil {
		c.fail("", err)
	}
}

func yes(c *call) {
	line := "y\n"
	if len(c.args) > 0 {
		line = strings.Join(c.args, " ") + "\n"
	}
	block := strings.Repeat(line, 1+8192/len(line))
	for {
		if _, err := os.Stdout.WriteString(block); err != nil {
			c.fail("", err)
			return
		}
	}
}
