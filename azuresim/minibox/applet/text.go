package applet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
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
				c.out.newline()
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
	c.out.text(text)
	if newline {
		c.out.newline()
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
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		left := n
		if left == 0 {
			return nil
		}
		return lines(r, func(line []byte, newline bool) bool {
			c.out.bytes(line...)
			if newline {
				c.out.newline()
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
		c.out.newline()
	}
	fmt.Fprintf(c.out, "==> %s <==\n", name)
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
			if errors.Is(err, io.EOF) {
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
				c.out.newline()
			}
			return
		}
		if i > 0 {
			c.out.text(sep)
		}
		c.out.text(strconv.FormatFloat(v, 'f', decimals, 64))
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
