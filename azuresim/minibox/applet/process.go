package applet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func trueCmd(*call)    {}
func falseCmd(c *call) { c.status = 1 }

func sleep(c *call) {
	if _, ok := c.flags("", nil); !ok || !c.need(1, -1) {
		return
	}
	var total time.Duration
	for _, a := range c.args {
		if a == "infinity" || a == "inf" {
			total = 1<<63 - 1
			continue
		}
		number, unit := a, time.Second
		if i := len(a) - 1; i > 0 {
			if u, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[a[i]]; ok {
				number, unit = a[:i], u
			}
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || v < 0 {
			c.usagef("invalid time interval '%s'", a)
			return
		}
		total += time.Duration(v * float64(unit))
	}
	time.Sleep(total)
}

func hostname(c *call) {
	f, ok := c.flags("sif", nil)
	if !ok || !c.need(0, 0) {
		return
	}
	name, err := os.Hostname()
	if err != nil {
		c.fail("", err)
		return
	}
	if f.has('i') {
		hosts, _ := os.ReadFile("/etc/hosts")
		for line := range strings.Lines(string(hosts)) {
			if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(fields[1:], name) {
				fmt.Fprintln(c.out, fields[0])
				return
			}
		}
		c.errorf("no address for %s in /etc/hosts", name)
		return
	}
	if f.has('s') {
		name, _, _ = strings.Cut(name, ".")
	}
	fmt.Fprintln(c.out, name)
}

func env(c *call) {
	environ := os.Environ()
	args := c.args
options:
	for len(args) > 0 && len(args[0]) > 0 && args[0][0] == '-' {
		switch a := args[0]; {
		case a == "-i" || a == "-" || a == "--ignore-environment":
			environ = nil
			args = args[1:]
		case a == "-u" && len(args) > 1:
			environ = slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, args[1]+"=") })
			args = args[2:]
		case a == "--":
			args = args[1:]
			break options
		default:
			c.usagef("unrecognized option '%s'", a)
			return
		}
	}
	for len(args) > 0 {
		k, _, ok := strings.Cut(args[0], "=")
		if !ok {
			break
		}
		environ = slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, k+"=") })
		environ = append(environ, args[0])
		args = args[1:]
	}
	if len(args) == 0 {
		for _, kv := range environ {
			fmt.Fprintln(c.out, kv)
		}
		return
	}
	for _, kv := range environ {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			_ = os.Setenv("PATH", path) // the command is looked up where it will look itself
		}
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = unix.Exec(path, args, environ)
	}
	c.status = 126
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		c.status = 127
		err = fs.ErrNotExist
	}
	c.fail(args[0], err)
}

func printenv(c *call) {
	if _, ok := c.flags("", nil); !ok {
		return
	}
	if len(c.args) == 0 {
		for _, kv := range os.Environ() {
			fmt.Fprintln(c.out, kv)
		}
	}
	for _, name := range c.args {
		v, ok := os.LookupEnv(name)
		if !ok {
			c.status = 1
			continue
		}
		fmt.Fprintln(c.out, v)
	}
}

// names reads id to name from a file like /etc/passwd; it is empty when there is no such file.
func names(file string) map[int]string {
	data, _ := os.ReadFile(file)
	m := map[int]string{}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 3 {
			continue
		}
		if n, err := strconv.Atoi(f[2]); err == nil {
			if _, taken := m[n]; !taken {
				m[n] = f[0]
			}
		}
	}
	return m
}

// lookup finds the id of a name, or of a number, in a file like /etc/passwd.
func lookup(file, name string) (int, bool) {
	for n, s := range names(file) {
		if s == name {
			return n, true
		}
	}
	n, err := strconv.ParseUint(name, 10, 31)
	return int(n), err == nil
}

func nameOf(file string, n int) string {
	if s, ok := names(file)[n]; ok {
		return s
	}
	return strconv.Itoa(n)
}

func userName(n uint32) string  { return nameOf("/etc/passwd", int(n)) }
func groupName(n uint32) string { return nameOf("/etc/group", int(n)) }

func id(c *call) {
	f, ok := c.flags("ugGnr", map[string]byte{"user": 'u', "group": 'g', "groups": 'G', "name": 'n', "real": 'r'})
	if !ok || !c.need(0, 0) {
		return
	}
	groups, err := unix.Getgroups()
	if err != nil {
		c.fail("", err)
		return
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if f.has('r') {
		uid, gid = os.Getuid(), os.Getgid()
	}
	if !slices.Contains(groups, gid) {
		groups = append([]int{gid}, groups...)
	}
	one := func(file string, n int) string {
		if f.has('n') {
			return nameOf(file, n)
		}
		return strconv.Itoa(n)
	}
	both := func(file string, n int) string {
		if s, ok := names(file)[n]; ok {
			return fmt.Sprintf("%d(%s)", n, s)
		}
		return strconv.Itoa(n)
	}
	switch {
	case f.has('u'):
		fmt.Fprintln(c.out, one("/etc/passwd", uid))
	case f.has('g'):
		fmt.Fprintln(c.out, one("/etc/group", gid))
	case f.has('G'):
		var list []string
		for _, g := range groups {
			list = append(list, one("/etc/group", g))
		}
		fmt.Fprintln(c.out, strings.Join(list, " "))
	default:
		var list []string
		for _, g := range groups {
			list = append(list, both("/etc/group", g))
		}
		fmt.Fprintf(c.out, "uid=%s gid=%s groups=%s\n", both("/etc/passwd", uid), both("/etc/group", gid), strings.Join(list, ","))
	}
}

func whoami(c *call) {
	if !c.need(0, 0) {
		return
	}
	fmt.Fprintln(c.out, userName(uint32(os.Geteuid())))
}

// ps lists every process that /proc shows; -e, -f, -a, -x, -u, -A and -l change nothing about it, as in busybox.
func ps(c *call) {
	if len(c.args) > 0 && c.args[0] != "" && c.args[0][0] != '-' {
		c.args[0] = "-" + c.args[0] // ps aux
	}
	f, ok := c.flags("eAafxulwo:", nil)
	if !ok || !c.need(0, 0) {
		return
	}
	columns := []string{"pid", "user", "time", "args"}
	if f.has('f') || f.has('u') {
		columns = []string{"pid", "ppid", "user", "stat", "time", "args"}
	}
	if f.has('o') {
		columns = strings.FieldsFunc(strings.Join(f['o'], ","), func(r rune) bool { return r == ',' || r == ' ' })
	}
	titles := map[string]string{"pid": "PID", "ppid": "PPID", "user": "USER", "uid": "UID", "stat": "STAT", "time": "TIME", "args": "COMMAND", "comm": "COMMAND", "cmd": "CMD", "rss": "RSS", "vsz": "VSZ"}
	for _, col := range columns {
		if titles[col] == "" {
			c.usagef("unknown column '%s'", col)
			return
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.fail("/proc", err)
		return
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	row := func(values map[string]string) {
		var b strings.Builder
		for i, col := range columns {
			switch {
			case i == len(columns)-1:
				b.WriteString(values[col])
			case col == "user" || col == "stat" || col == "comm" || col == "args" || col == "cmd":
				fmt.Fprintf(&b, "%-8s ", values[col])
			default:
				fmt.Fprintf(&b, "%5s ", values[col])
			}
		}
		fmt.Fprintln(c.out, b.String())
	}
	row(titles)
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // ended since ReadDir
		}
		open, shut := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if open < 0 || shut < open {
			continue
		}
		comm := string(stat[open+1 : shut])
		rest := strings.Fields(string(stat[shut+1:]))
		if len(rest) < 22 {
			continue
		}
		args := "[" + comm + "]"
		if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(line) > 0 {
			args = strings.TrimRight(strings.ReplaceAll(string(line), "\x00", " "), " ")
		}
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue
		}
		user, _ := strconv.Atoi(rest[11])
		system, _ := strconv.Atoi(rest[12])
		seconds := (user + system) / 100 // USER_HZ is 100 on every Linux that Go runs on
		vsz, _ := strconv.Atoi(rest[20])
		rss, _ := strconv.Atoi(rest[21])
		row(map[string]string{
			"pid": strconv.Itoa(pid), "ppid": rest[1], "user": userName(st.Uid), "uid": strconv.Itoa(int(st.Uid)), "stat": rest[0],
			"time": fmt.Sprintf("%d:%02d", seconds/60, seconds%60), "args": args, "cmd": args, "comm": comm,
			"rss": strconv.Itoa(rss * os.Getpagesize() / 1024), "vsz": strconv.Itoa(vsz / 1024),
		})
	}
}

func kill(c *call) {
	args := c.args
	sig := unix.SIGTERM
	if len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "--" {
		word := args[0][1:]
		args = args[1:]
		switch {
		case word == "l":
			for n := unix.Signal(1); n < 32; n++ {
				if s := strings.TrimPrefix(unix.SignalName(n), "SIG"); s != "" {
					fmt.Fprintln(c.out, s)
				}
			}
			return
		case word == "s" && len(args) > 0:
			word, args = args[0], args[1:]
		}
		if n, err := strconv.Atoi(word); err == nil && n >= 0 && n <= 64 {
			sig = unix.Signal(n)
		} else if sig = unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(word), "SIG")); sig == 0 {
			c.usagef("unknown signal '%s'", word)
			return
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if c.args = args; !c.need(1, -1) {
		return
	}
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil {
			c.usagef("invalid pid '%s'", a)
			continue
		}
		if err := unix.Kill(pid, sig); err != nil {
			c.errorf("(%d): %v", pid, reason(err))
		}
	}
}

func uname(c *call) {
	f, ok := c.flags("asnrvmo", map[string]byte{"all": 'a', "kernel-name": 's', "nodename": 'n', "kernel-release": 'r', "kernel-version": 'v', "machine": 'm', "operating-system": 'o'})
	if !ok || !c.need(0, 0) {
		return
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		c.fail("", err)
		return
	}
	if len(f) == 0 {
		f['s'] = []string{""}
	}
	var parts []string
	for _, p := range []struct {
		letter byte
		value  string
	}{
		{'s', unix.ByteSliceToString(u.Sysname[:])}, {'n', unix.ByteSliceToString(u.Nodename[:])}, {'r', unix.ByteSliceToString(u.Release[:])},
		{'v', unix.ByteSliceToString(u.Version[:])}, {'m', unix.ByteSliceToString(u.Machine[:])}, {'o', "Minibox/Linux"},
	} {
		if f.has('a') || f.has(p.letter) {
			parts = append(parts, p.value)
		}
	}
	fmt.Fprintln(c.out, strings.Join(parts, " "))
}

func date(c *call) {
	f, ok := c.flags("ud:r:I", map[string]byte{"utc": 'u', "date": 'd', "reference": 'r'})
	if !ok || !c.need(0, 1) {
		return
	}
	now := time.Now()
	var err error
	switch {
	case f.has('d'):
		if now, err = parseDate(f.last('d', "")); err != nil {
			c.usagef("%v", err)
			return
		}
	case f.has('r'):
		info, err := os.Stat(f.last('r', ""))
		if err != nil {
			c.fail(f.last('r', ""), err)
			return
		}
		now = info.ModTime()
	}
	if f.has('u') {
		now = now.UTC()
	}
	format := "%a %b %e %H:%M:%S %Z %Y"
	if f.has('I') {
		format = "%Y-%m-%d"
	}
	if len(c.args) == 1 {
		given, ok := strings.CutPrefix(c.args[0], "+")
		if !ok {
			c.usagef("cannot set the date")
			return
		}
		format = given
	}
	text, err := strftime(now, format)
	if err != nil {
		c.usagef("%v", err)
		return
	}
	fmt.Fprintln(c.out, text)
}

func parseDate(s string) (time.Time, error) {
	if at, ok := strings.CutPrefix(s, "@"); ok {
		v, err := strconv.ParseFloat(at, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("invalid date '%s'", s)
		}
		return time.Unix(0, int64(v*1e9)), nil
	}
	if s == "now" {
		return time.Now(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid date '%s'", s)
}

func strftime(t time.Time, format string) (string, error) {
	layouts := map[byte]string{'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'm': "01", 'M': "04",
		'p': "PM", 'S': "05", 'y': "06", 'Y': "2006", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		switch letter := format[i]; {
		case layouts[letter] != "":
			b.WriteString(t.Format(layouts[letter]))
		case letter == 's':
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
		case letter == 'N':
			fmt.Fprintf(&b, "%09d", t.Nanosecond())
		case letter == 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case letter == 'u':
			fmt.Fprintf(&b, "%d", (int(t.Weekday())+6)%7+1)
		case letter == 'w':
			fmt.Fprintf(&b, "%d", t.Weekday())
		case letter == 'n':
			b.WriteByte('\n')
		case letter == 't':
			b.WriteByte('\t')
		case letter == '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("unknown format '%%%c'", letter)
		}
	}
	return b.String(), nil
}

func tty(c *call) {
	if !term.IsTerminal(0) {
		fmt.Fprintln(c.out, "not a tty")
		c.status = 1
		return
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		c.fail("", err)
		return
	}
	fmt.Fprintln(c.out, name)
}

// stty knows size, the echo and icanon switches, and the sane and raw sets.
func stty(c *call) {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		c.fail("standard input", err)
		return
	}
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		c.fail("standard input", err)
		return
	}
	if len(c.args) == 0 || c.args[0] == "-a" {
		fmt.Fprintf(c.out, "rows %d; columns %d;\n", size.Row, size.Col)
		for _, s := range []struct {
			name string
			on   bool
		}{{"isig", t.Lflag&unix.ISIG != 0}, {"icanon", t.Lflag&unix.ICANON != 0}, {"echo", t.Lflag&unix.ECHO != 0}, {"onlcr", t.Oflag&unix.ONLCR != 0}} {
			if !s.on {
				c.out.bytes('-')
			}
			fmt.Fprintf(c.out, "%s ", s.name)
		}
		c.out.newline()
		return
	}
	for _, word := range c.args {
		on := !strings.HasPrefix(word, "-")
		flip := func(field *uint32, bit uint32) {
			if *field &^= bit; on {
				*field |= bit
			}
		}
		switch strings.TrimPrefix(word, "-") {
		case "size":
			fmt.Fprintf(c.out, "%d %d\n", size.Row, size.Col)
		case "echo":
			flip(&t.Lflag, unix.ECHO)
		case "icanon":
			flip(&t.Lflag, unix.ICANON)
		case "isig":
			flip(&t.Lflag, unix.ISIG)
		case "onlcr":
			flip(&t.Oflag, unix.ONLCR)
		case "sane", "raw":
			sane := on == (word == "sane")
			on = sane
			flip(&t.Lflag, unix.ECHO|unix.ICANON|unix.ISIG|unix.IEXTEN|unix.ECHOE|unix.ECHOK)
			flip(&t.Oflag, unix.OPOST|unix.ONLCR)
			flip(&t.Iflag, unix.ICRNL|unix.IXON|unix.BRKINT)
		default:
			c.usagef("unrecognized setting '%s'", word)
			return
		}
	}
	if err := unix.IoctlSetTermios(0, unix.TCSETS, t); err != nil {
		c.fail("standard input", err)
	}
}
