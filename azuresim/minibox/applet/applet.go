// Package applet holds the small Unix programs of the minibox image: a shell, and enough beside it to look around, to
// move bytes and to make a process that waits, prints, fails or fills memory on request.
//
// Each applet is a func(*call) that reads its arguments with call.flags, writes to call.out and reports trouble with
// call.errorf, which also makes the exit status 1. Options that an applet does not know are refused by name.
package applet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func table() map[string]func(*call) {
	return map[string]func(*call){
		"[": testCmd, "basename": basename, "cat": cat, "chmod": chmod, "chown": chown, "cp": cp, "cut": cut, "date": date, "dd": dd,
		"dirname": dirname, "echo": echo, "env": env, "false": falseCmd, "find": find, "grep": grep, "head": head, "hostname": hostname,
		"id": id, "kill": kill, "ln": ln, "ls": ls, "mkdir": mkdir, "mv": mv, "nc": nc, "printenv": printenv, "printf": printfCmd, "ps": ps,
		"pwd": pwd, "readlink": readlink, "rm": rm, "rmdir": rmdir, "seq": seq, "sh": sh, "sha256sum": sha256sum, "sleep": sleep, "sort": sortCmd,
		"stty": stty, "sync": syncCmd, "tail": tail, "tar": tarCmd, "tee": tee, "test": testCmd, "touch": touch, "tr": tr, "true": trueCmd,
		"tty": tty, "uname": uname, "wc": wc, "whoami": whoami, "yes": yes,
	}
}

// Main runs the applet that argv[0] names, or argv[1] when argv[0] is minibox itself, and returns its exit status.
// `minibox --list` prints the names.
func Main(argv []string) int {
	name := "minibox"
	if len(argv) > 0 {
		name = strings.TrimPrefix(filepath.Base(argv[0]), "-") // a login shell is called -sh
	}
	if name == "minibox" {
		if len(argv) < 2 {
			fmt.Fprintln(os.Stderr, "usage: minibox APPLET [ARGUMENT...] | minibox --list")
			return 2
		}
		if argv[1] == "--list" {
			for _, n := range slices.Sorted(maps.Keys(table())) {
				fmt.Println(n)
			}
			return 0
		}
		argv = argv[1:]
		name = filepath.Base(argv[0])
	}
	run, ok := table()[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "minibox: %s: no such applet\n", name)
		return 127
	}
	if os.Getpid() == 1 {
		// The kernel delivers to pid 1 only signals that it handles; Go's runtime handles all of them and would
		// exit with status 2 where a C program stays. Notify rather than Ignore: ignored signals are inherited.
		signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM)
	}
	c := &call{name: name, args: argv[1:], out: &output{bufio.NewWriterSize(os.Stdout, 32<<10)}}
	run(c)
	if err := c.out.w.Flush(); err != nil {
		c.errorf("write error: %v", reason(err))
	}
	return c.status
}

// call is one run of an applet.
type call struct {
	name   string
	args   []string
	out    *output
	status int
}

// output is stdout, buffered. Its first error stays and is told by Main at the end, so the methods tell none.
type output struct{ w *bufio.Writer }

// Write makes it an io.Writer, for fmt and io.
func (o *output) Write(p []byte) (int, error) { return o.w.Write(p) }

func (o *output) bytes(p ...byte) { _, _ = o.w.Write(p) }
func (o *output) text(s string)   { _, _ = o.w.WriteString(s) }
func (o *output) newline()        { o.bytes('\n') }
func (o *output) flush()          { _ = o.w.Flush() }

// errorf tells a problem on stderr and makes the status 1 unless it is set already.
func (c *call) errorf(format string, a ...any) {
	c.out.flush() // what was printed before the problem comes before it
	fmt.Fprintf(os.Stderr, "%s: %s\n", c.name, fmt.Sprintf(format, a...))
	if c.status == 0 {
		c.status = 1
	}
}

// usagef tells a wrong call: status 2.
func (c *call) usagef(format string, a ...any) {
	c.errorf(format, a...)
	c.status = 2
}

// fail tells err in the words of Unix programs: what, then the reason without Go's path and operation.
func (c *call) fail(what string, err error) {
	if what == "" {
		c.errorf("%v", reason(err))
		return
	}
	c.errorf("%s: %v", what, reason(err))
}

func reason(err error) string {
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		s := errno.Error()
		return strings.ToUpper(s[:1]) + s[1:]
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrExist):
		return "File exists"
	case errors.Is(err, fs.ErrPermission):
		return "Permission denied"
	}
	return err.Error()
}

// flags are the options of one call; a letter maps to the values it was given, "" for one without a value.
type flags map[byte][]string

func (f flags) has(letter byte) bool { return len(f[letter]) > 0 }

// last is the value of an option given several times, or def.
func (f flags) last(letter byte, def string) string {
	if v := f[letter]; len(v) > 0 {
		return v[len(v)-1]
	}
	return def
}

// flags parses c.args as getopt does: spec is its letters, a colon after those that take a value; long maps long names to
// letters. What remains is left in c.args. It reports false after telling an unknown option.
func (c *call) flags(spec string, long map[string]byte) (flags, bool) {
	f := flags{}
	var rest []string
	takesValue := func(letter byte) bool {
		i := strings.IndexByte(spec, letter)
		return i >= 0 && i+1 < len(spec) && spec[i+1] == ':'
	}
	for i := 0; i < len(c.args); i++ {
		a := c.args[i]
		switch {
		case a == "--":
			rest = append(rest, c.args[i+1:]...)
			c.args = rest
			return f, true
		case strings.HasPrefix(a, "--"):
			name, value, given := strings.Cut(a[2:], "=")
			letter, ok := long[name]
			if !ok {
				c.usagef("unrecognized option '%s'", a)
				return nil, false
			}
			if takesValue(letter) && !given {
				if i++; i == len(c.args) {
					c.usagef("option '--%s' requires an argument", name)
					return nil, false
				}
				value = c.args[i]
			} else if given && !takesValue(letter) {
				c.usagef("option '--%s' doesn't allow an argument", name)
				return nil, false
			}
			f[letter] = append(f[letter], value)
		case len(a) > 1 && a[0] == '-':
			for j := 1; j < len(a); j++ {
				letter := a[j]
				if letter == ':' || strings.IndexByte(spec, letter) < 0 {
					c.usagef("unrecognized option '-%c'", letter)
					return nil, false
				}
				if !takesValue(letter) {
					f[letter] = append(f[letter], "")
					continue
				}
				value := a[j+1:]
				if value == "" {
					if i++; i == len(c.args) {
						c.usagef("option requires an argument -- '%c'", letter)
						return nil, false
					}
					value = c.args[i]
				}
				f[letter] = append(f[letter], value)
				break
			}
		default:
			rest = append(rest, a)
		}
	}
	c.args = rest
	return f, true
}

// need tells a wrong number of operands; max < 0 is any.
func (c *call) need(least, most int) bool {
	switch {
	case len(c.args) < least:
		c.usagef("missing operand")
	case most >= 0 && len(c.args) > most:
		c.usagef("extra operand '%s'", c.args[most])
	default:
		return true
	}
	return false
}

// eachInput calls f with every named file, or with stdin when there is none; "-" is stdin.
func (c *call) eachInput(names []string, f func(name string, r io.Reader) error) {
	if len(names) == 0 {
		names = []string{"-"}
	}
	for _, name := range names {
		r := os.Stdin
		if name != "-" {
			var err error
			if r, err = os.Open(name); err != nil {
				c.fail(name, err)
				continue
			}
		}
		if err := f(name, r); err != nil {
			c.fail(name, err)
		}
		if r != os.Stdin {
			r.Close()
		}
	}
}

// lines calls f with every line of r, without its newline, until f reports false. Lines may be of any length.
func lines(r io.Reader, f func(line []byte, newline bool) bool) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long := slices.Clone(line)
			var more []byte
			more, err = br.ReadBytes('\n')
			line = append(long, more...)
		}
		if len(line) > 0 {
			newline := line[len(line)-1] == '\n'
			if newline {
				line = line[:len(line)-1]
			}
			if !f(line, newline) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
