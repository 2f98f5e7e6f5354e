package applet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func ls(c *call) {
	f, ok := c.flags("1aAldhinRrtSF", map[string]byte{"all": 'a', "almost-all": 'A', "directory": 'd', "human-readable": 'h', "inode": 'i', "recursive": 'R', "reverse": 'r'})
	if !ok {
		return
	}
	names := c.args
	if len(names) == 0 {
		names = []string{"."}
	}
	type entry struct {
		name, path string
		info       fs.FileInfo
	}
	arrange := func(list []entry) {
		slices.SortFunc(list, func(a, b entry) int {
			r := 0
			switch {
			case f.has('t'):
				r = b.info.ModTime().Compare(a.info.ModTime())
			case f.has('S'):
				r = cmp.Compare(b.info.Size(), a.info.Size())
			}
			if r == 0 {
				r = strings.Compare(a.name, b.name)
			}
			if f.has('r') {
				r = -r
			}
			return r
		})
	}
	show := func(list []entry) {
		arrange(list)
		var rows [][]string
		for _, e := range list {
			st := e.info.Sys().(*syscall.Stat_t)
			name := e.name
			if f.has('F') {
				name += typeMark(e.info.Mode())
			}
			inode := ""
			if f.has('i') {
				inode = strconv.FormatUint(st.Ino, 10) + " "
			}
			if !f.has('l') && !f.has('n') {
				fmt.Fprintf(c.out, "%s%s\n", inode, name)
				continue
			}
			if e.info.Mode()&fs.ModeSymlink != 0 {
				if to, err := os.Readlink(e.path); err == nil {
					name += " -> " + to
				}
			}
			size := strconv.FormatInt(st.Size, 10)
			switch {
			case e.info.Mode()&fs.ModeDevice != 0:
				size = fmt.Sprintf("%d, %d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
			case f.has('h'):
				size = humanSize(st.Size)
			}
			user, group := strconv.Itoa(int(st.Uid)), strconv.Itoa(int(st.Gid))
			if !f.has('n') {
				user, group = userName(st.Uid), groupName(st.Gid)
			}
			stamp := e.info.ModTime().Format("Jan _2 15:04")
			if age := time.Since(e.info.ModTime()); age > 180*24*time.Hour || age < -time.Hour {
				stamp = e.info.ModTime().Format("Jan _2  2006")
			}
			rows = append(rows, []string{inode + modeString(e.info.Mode()), strconv.FormatUint(uint64(st.Nlink), 10), user, group, size, stamp, name})
		}
		var width [7]int
		for _, row := range rows {
			for i, s := range row {
				width[i] = max(width[i], len(s))
			}
		}
		for _, row := range rows {
			fmt.Fprintf(c.out, "%s %*s %-*s %-*s %*s %s %s\n", row[0], width[1], row[1], width[2], row[2], width[3], row[3], width[4], row[4], row[5], row[6])
		}
	}
	var single, folders []entry
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || f.has('l') || f.has('d') {
			if linfo, lerr := os.Lstat(name); lerr == nil && (err != nil || f.has('d') || linfo.Mode()&fs.ModeSymlink != 0 && f.has('l')) {
				info, err = linfo, nil
			}
		}
		switch {
		case err != nil:
			c.fail(name, err)
		case info.IsDir() && !f.has('d'):
			folders = append(folders, entry{name, name, info})
		default:
			single = append(single, entry{name, name, info})
		}
	}
	show(single)
	arrange(folders)
	first := len(single) == 0
	var list func(folder entry, titled bool)
	list = func(folder entry, titled bool) {
		read, err := os.ReadDir(folder.path)
		if err != nil {
			c.fail(folder.path, err)
			return
		}
		if titled {
			if !first {
				c.out.WriteByte('\n')
			}
			fmt.Fprintf(c.out, "%s:\n", folder.name)
		}
		first = false
		var inside []entry
		if f.has('a') {
			for _, dot := range []string{".", ".."} {
				if info, err := os.Stat(filepath.Join(folder.path, dot)); err == nil {
					inside = append(inside, entry{dot, filepath.Join(folder.path, dot), info})
				}
			}
		}
		for _, d := range read {
			if d.Name()[0] == '.' && !f.has('a') && !f.has('A') {
				continue
			}
			info, err := d.Info()
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) { // gone since ReadDir
					c.fail(d.Name(), err)
				}
				continue
			}
			inside = append(inside, entry{d.Name(), filepath.Join(folder.path, d.Name()), info})
		}
		show(inside)
		if f.has('R') {
			for _, e := range inside {
				if e.info.IsDir() && e.name != "." && e.name != ".." {
					list(entry{e.path, e.path, e.info}, true)
				}
			}
		}
	}
	for _, folder := range folders {
		list(folder, len(folders)+len(single) > 1 || f.has('R'))
	}
}

func typeMark(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "/"
	case m&fs.ModeSymlink != 0:
		return "@"
	case m&fs.ModeNamedPipe != 0:
		return "|"
	case m&fs.ModeSocket != 0:
		return "="
	case m&0o111 != 0:
		return "*"
	}
	return ""
}

// modeString is ls's ten letters.
func modeString(m fs.FileMode) string {
	kind := byte('-')
	switch {
	case m.IsDir():
		kind = 'd'
	case m&fs.ModeSymlink != 0:
		kind = 'l'
	case m&fs.ModeNamedPipe != 0:
		kind = 'p'
	case m&fs.ModeSocket != 0:
		kind = 's'
	case m&fs.ModeCharDevice != 0:
		kind = 'c'
	case m&fs.ModeDevice != 0:
		kind = 'b'
	}
	b := []byte(string(kind) + m.Perm().String()[1:])
	special := func(at int, set bool, letter byte) {
		switch {
		case set && b[at] == 'x':
			b[at] = letter
		case set:
			b[at] = letter - 'a' + 'A'
		}
	}
	special(3, m&fs.ModeSetuid != 0, 's')
	special(6, m&fs.ModeSetgid != 0, 's')
	special(9, m&fs.ModeSticky != 0, 't')
	return string(b)
}

func humanSize(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	v := float64(n)
	unit := -1
	for v >= 1024 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f%c", v, "KMGTPE"[unit])
}

func mkdir(c *call) {
	f, ok := c.flags("pm:", map[string]byte{"parents": 'p', "mode": 'm'})
	if !ok || !c.need(1, -1) {
		return
	}
	var change func(fs.FileMode, bool) fs.FileMode
	if f.has('m') {
		var err error
		if change, err = parseMode(f.last('m', "")); err != nil {
			c.usagef("%v", err)
			return
		}
	}
	for _, name := range c.args {
		var err error
		if f.has('p') {
			err = os.MkdirAll(name, 0o777)
		} else {
			err = os.Mkdir(name, 0o777)
		}
		if err == nil && change != nil {
			err = os.Chmod(name, change(0o777, true))
		}
		if err != nil {
			c.errorf("cannot create directory '%s': %v", name, reason(err))
		}
	}
}

func rmdir(c *call) {
	if _, ok := c.flags("", nil); !ok || !c.need(1, -1) {
		return
	}
	for _, name := range c.args {
		if err := unix.Rmdir(name); err != nil {
			c.fail(name, err)
		}
	}
}

func rm(c *call) {
	f, ok := c.flags("rRfdi", map[string]byte{"recursive": 'r', "force": 'f', "dir": 'd'})
	if !ok || !f.has('f') && !c.need(1, -1) {
		return
	}
	if f.has('i') {
		c.usagef("cannot use -i: minibox's rm does not ask")
		return
	}
	for _, name := range c.args {
		info, err := os.Lstat(name)
		base := filepath.Base(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && f.has('f'):
		case err != nil:
			c.errorf("cannot remove '%s': %v", name, reason(err))
		case base == "." || base == ".." || filepath.Clean(name) == "/":
			c.errorf("refusing to remove '%s'", name)
		case info.IsDir() && !f.has('r') && !f.has('R') && !f.has('d'):
			c.errorf("cannot remove '%s': Is a directory", name)
		default:
			if f.has('r') || f.has('R') {
				err = os.RemoveAll(name)
			} else {
				err = os.Remove(name)
			}
			if err != nil {
				c.errorf("cannot remove '%s': %v", name, reason(err))
			}
		}
	}
}

// intoFolder is where cp, mv and ln put the operand name: in the folder that the last operand is, or at it.
func (c *call) intoFolder() (sources []string, target func(string) string, ok bool) {
	if !c.need(2, -1) {
		return nil, nil, false
	}
	last := c.args[len(c.args)-1]
	sources = c.args[:len(c.args)-1]
	info, err := os.Stat(last)
	folder := err == nil && info.IsDir()
	if len(sources) > 1 && !folder {
		c.errorf("target '%s': Not a directory", last)
		return nil, nil, false
	}
	return sources, func(name string) string {
		if folder {
			return filepath.Join(last, filepath.Base(name))
		}
		return last
	}, true
}

func cp(c *call) {
	f, ok := c.flags("rRapfdLPT", map[string]byte{"recursive": 'r', "archive": 'a', "preserve": 'p', "force": 'f'})
	if !ok {
		return
	}
	if f.has('T') {
		c.usagef("unrecognized option '-T'")
		return
	}
	sources, target, ok := c.intoFolder()
	if !ok {
		return
	}
	o := copyOptions{
		recursive: f.has('r') || f.has('R') || f.has('a'),
		preserve:  f.has('p') || f.has('a'),
		links:     (f.has('r') || f.has('R') || f.has('a') || f.has('d') || f.has('P')) && !f.has('L'),
		force:     f.has('f'),
	}
	for _, name := range sources {
		c.copyTree(name, target(name), o)
	}
}

type copyOptions struct{ recursive, preserve, links, force bool }

// copyTree copies name to dst, which is its full new name, and tells what it cannot copy.
func (c *call) copyTree(name, dst string, o copyOptions) bool {
	stat := os.Stat
	if o.links {
		stat = os.Lstat
	}
	info, err := stat(name)
	if err != nil {
		c.fail(name, err)
		return false
	}
	if there, err := os.Stat(dst); err == nil && os.SameFile(info, there) {
		c.errorf("'%s' and '%s' are the same file", name, dst)
		return false
	}
	ok := true
	switch mode := info.Mode(); {
	case mode.IsDir():
		if !o.recursive {
			c.errorf("-r not specified; omitting directory '%s'", name)
			return false
		}
		from, _ := filepath.Abs(name)
		if to, _ := filepath.Abs(dst); strings.HasPrefix(to+"/", from+"/") {
			c.errorf("cannot copy a directory, '%s', into itself, '%s'", name, dst)
			return false
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			c.fail(name, err)
			return false
		}
		if err := os.Mkdir(dst, mode.Perm()|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			c.fail(dst, err)
			return false
		}
		for _, e := range entries {
			ok = c.copyTree(filepath.Join(name, e.Name()), filepath.Join(dst, e.Name()), o) && ok
		}
	case mode&fs.ModeSymlink != 0:
		to, err := os.Readlink(name)
		if err == nil {
			os.Remove(dst)
			err = os.Symlink(to, dst)
		}
		if err != nil {
			c.fail(dst, err)
			return false
		}
	case mode.IsRegular() || !o.recursive:
		if err := copyFile(name, dst, mode.Perm(), o.force); err != nil {
			c.fail(dst, err)
			return false
		}
	case mode&fs.ModeNamedPipe != 0:
		if err := unix.Mkfifo(dst, uint32(mode.Perm())); err != nil {
			c.fail(dst, err)
			return false
		}
	default:
		st := info.Sys().(*syscall.Stat_t)
		if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
			c.fail(dst, err)
			return false
		}
	}
	if o.preserve {
		if err := preserve(dst, info); err != nil {
			c.fail(dst, err)
			return false
		}
	}
	return ok
}

func copyFile(name, dst string, perm fs.FileMode, force bool) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil && force {
		os.Remove(dst)
		out, err = os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func preserve(dst string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil && os.Geteuid() == 0 {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err := os.Chmod(dst, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(dst, info.ModTime(), info.ModTime())
}

func mv(c *call) {
	if _, ok := c.flags("fT", map[string]byte{"force": 'f'}); !ok {
		return
	}
	sources, target, ok := c.intoFolder()
	if !ok {
		return
	}
	for _, name := range sources {
		dst := target(name)
		err := os.Rename(name, dst)
		if errors.Is(err, unix.EXDEV) { // another file system: copy, then remove
			if c.copyTree(name, dst, copyOptions{recursive: true, preserve: true, links: true, force: true}) {
				err = os.RemoveAll(name)
			} else {
				err = nil // told by copyTree
			}
		}
		if err != nil {
			c.errorf("cannot move '%s' to '%s': %v", name, dst, reason(err))
		}
	}
}

func ln(c *call) {
	f, ok := c.flags("sfn", map[string]byte{"symbolic": 's', "force": 'f', "no-dereference": 'n'})
	if !ok {
		return
	}
	if len(c.args) == 1 {
		c.args = append(c.args, filepath.Base(c.args[0]))
	}
	if len(c.args) == 2 && f.has('n') && f.has('f') {
		if info, err := os.Lstat(c.args[1]); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			os.Remove(c.args[1])
		}
	}
	sources, target, ok := c.intoFolder()
	if !ok {
		return
	}
	for _, name := range sources {
		dst := target(name)
		if f.has('f') {
			os.Remove(dst)
		}
		link := os.Link
		if f.has('s') {
			link = os.Symlink
		}
		if err := link(name, dst); err != nil {
			c.errorf("cannot create link '%s': %v", dst, reason(err))
		}
	}
}

func touch(c *call) {
	f, ok := c.flags("camd:r:", map[string]byte{"no-create": 'c', "date": 'd', "reference": 'r'})
	if !ok || !c.need(1, -1) {
		return
	}
	when := time.Now()
	if f.has('d') {
		var err error
		if when, err = parseDate(f.last('d', "")); err != nil {
			c.usagef("%v", err)
			return
		}
	}
	if f.has('r') {
		info, err := os.Stat(f.last('r', ""))
		if err != nil {
			c.fail(f.last('r', ""), err)
			return
		}
		when = info.ModTime()
	}
	for _, name := range c.args {
		err := os.Chtimes(name, when, when)
		if errors.Is(err, fs.ErrNotExist) {
			if f.has('c') {
				continue
			}
			var file *os.File
			if file, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o666); err == nil {
				file.Close()
				err = os.Chtimes(name, when, when)
			}
		}
		if err != nil {
			c.fail(name, err)
		}
	}
}

func chmod(c *call) {
	// A mode like -w looks like an option.
	recursive := false
	var args []string
	for _, a := range c.args {
		switch {
		case len(args) == 0 && (a == "-R" || a == "--recursive"):
			recursive = true
		case len(args) == 0 && len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "rwxXst,+-=ugoa") != "":
			c.usagef("unrecognized option '%s'", a)
			return
		default:
			args = append(args, a)
		}
	}
	c.args = args
	if !c.need(2, -1) {
		return
	}
	change, err := parseMode(args[0])
	if err != nil {
		c.usagef("%v", err)
		return
	}
	c.eachPath(args[1:], recursive, func(path string, info fs.FileInfo) error {
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		return os.Chmod(path, change(info.Mode(), info.IsDir()))
	})
}

func chown(c *call) {
	f, ok := c.flags("Rh", map[string]byte{"recursive": 'R', "no-dereference": 'h'})
	if !ok || !c.need(2, -1) {
		return
	}
	user, group, _ := strings.Cut(c.args[0], ":")
	uid, gid := -1, -1
	if user != "" {
		n, ok := lookup("/etc/passwd", user)
		if !ok {
			c.errorf("unknown user '%s'", user)
			return
		}
		uid = n
	}
	if group != "" {
		n, ok := lookup("/etc/group", group)
		if !ok {
			c.errorf("unknown group '%s'", group)
			return
		}
		gid = n
	}
	c.eachPath(c.args[1:], f.has('R'), func(path string, info fs.FileInfo) error {
		if info.Mode()&fs.ModeSymlink != 0 && !f.has('h') && !f.has('R') {
			return os.Chown(path, uid, gid)
		}
		return os.Lchown(path, uid, gid)
	})
}

// eachPath calls f for each path, and for all that is below it when recursive.
func (c *call) eachPath(paths []string, recursive bool, f func(string, fs.FileInfo) error) {
	for _, path := range paths {
		if !recursive {
			info, err := os.Lstat(path)
			if err == nil && info.Mode()&fs.ModeSymlink != 0 {
				if to, terr := os.Stat(path); terr == nil {
					info = to
				}
			}
			if err == nil {
				err = f(path, info)
			}
			if err != nil {
				c.fail(path, err)
			}
			continue
		}
		filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				var info fs.FileInfo
				if info, err = d.Info(); err == nil {
					err = f(path, info)
				}
			}
			if err != nil {
				c.fail(path, err)
			}
			return nil
		})
	}
}

// parseMode reads an octal or symbolic mode and returns what makes the new mode of the old one.
func parseMode(s string) (func(old fs.FileMode, dir bool) fs.FileMode, error) {
	invalid := fmt.Errorf("invalid mode '%s'", s)
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return nil, invalid
		}
		return func(fs.FileMode, bool) fs.FileMode { return fromUnixMode(uint32(n)) }, nil
	}
	type clause struct {
		who  uint32 // mask over the nine bits
		op   byte
		perm string
		all  bool
	}
	var clauses []clause
	for part := range strings.SplitSeq(s, ",") {
		i := strings.IndexAny(part, "+-=")
		if i < 0 || strings.Trim(part[:i], "ugoa") != "" {
			return nil, invalid
		}
		var who uint32
		for _, w := range part[:i] {
			who |= map[rune]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[w]
		}
		all := who == 0
		if all {
			who = 0o7777
		}
		for part = part[i:]; part != ""; {
			op := part[0]
			j := 1 + strings.IndexAny(part[1:]+"+", "+-=")
			perm := part[1:j]
			if strings.Trim(perm, "rwxXstugo") != "" {
				return nil, invalid
			}
			clauses = append(clauses, clause{who, op, perm, all})
			part = part[j:]
		}
	}
	return func(old fs.FileMode, dir bool) fs.FileMode {
		m := toUnixMode(old)
		for _, cl := range clauses {
			var bits uint32
			for _, p := range cl.perm {
				switch p {
				case 'r':
					bits |= 0o444
				case 'w':
					bits |= 0o222
				case 'x':
					bits |= 0o111
				case 'X':
					if dir || m&0o111 != 0 {
						bits |= 0o111
					}
				case 's':
					bits |= 0o6000
				case 't':
					bits |= 0o1000
				default: // copy from another class
					three := map[rune]uint32{'u': m >> 6, 'g': m >> 3, 'o': m}[p] & 7
					bits |= three | three<<3 | three<<6
				}
			}
			bits &= cl.who
			switch cl.op {
			case '+':
				m |= bits
			case '-':
				m &^= bits
			case '=':
				m = m&^(cl.who&0o777) | bits
			}
		}
		return fromUnixMode(m)
	}, nil
}

func toUnixMode(m fs.FileMode) uint32 {
	n := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		n |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return n
}

func fromUnixMode(n uint32) fs.FileMode {
	m := fs.FileMode(n & 0o777)
	if n&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if n&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if n&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

func basename(c *call) {
	if _, ok := c.flags("", nil); !ok || !c.need(1, 2) {
		return
	}
	name := filepath.Base(c.args[0])
	if len(c.args) == 2 && name != c.args[1] {
		name = strings.TrimSuffix(name, c.args[1])
	}
	fmt.Fprintln(c.out, name)
}

func dirname(c *call) {
	if _, ok := c.flags("", nil); !ok || !c.need(1, -1) {
		return
	}
	for _, a := range c.args {
		fmt.Fprintln(c.out, filepath.Dir(strings.TrimRight(a, "/")+strings.Repeat("/", max(0, 1-len(strings.Trim(a, "/"))))))
	}
}

func readlink(c *call) {
	f, ok := c.flags("fn", map[string]byte{"canonicalize": 'f', "no-newline": 'n'})
	if !ok || !c.need(1, -1) {
		return
	}
	for _, a := range c.args {
		to, err := os.Readlink(a)
		if f.has('f') {
			if to, err = filepath.EvalSymlinks(a); err == nil {
				to, err = filepath.Abs(to)
			}
		}
		if err != nil {
			c.status = 1 // readlink is silent
			continue
		}
		c.out.WriteString(to)
		if !f.has('n') {
			c.out.WriteByte('\n')
		}
	}
}

func pwd(c *call) {
	if _, ok := c.flags("LP", nil); !ok {
		return
	}
	dir, err := os.Getwd()
	if err != nil {
		c.fail("", err)
		return
	}
	fmt.Fprintln(c.out, dir)
}

func syncCmd(c *call) { unix.Sync() }

func dd(c *call) {
	opt := map[string]string{}
	for _, a := range c.args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || !slices.Contains([]string{"if", "of", "bs", "ibs", "obs", "count", "skip", "seek", "status", "conv", "iflag"}, k) {
			c.usagef("unrecognized operand '%s'", a)
			return
		}
		opt[k] = v
	}
	number := func(key, def string) int64 {
		v, given := opt[key]
		if !given {
			v = def
		}
		n, err := count(v)
		if err != nil {
			c.usagef("%s: %v", key, err)
		}
		return n
	}
	bs := number("bs", opt["ibs"]+map[bool]string{true: "512"}[opt["ibs"] == ""])
	blocks, skip, seek := number("count", "9223372036854775807"), number("skip", "0"), number("seek", "0")
	var noTrunc, fsync, fullBlock bool
	for _, list := range []struct{ value, name string }{{opt["conv"], "conv"}, {opt["iflag"], "iflag"}} {
		for word := range strings.SplitSeq(list.value, ",") {
			switch {
			case word == "":
			case list.name == "conv" && word == "notrunc":
				noTrunc = true
			case list.name == "conv" && (word == "fsync" || word == "fdatasync"):
				fsync = true
			case list.name == "iflag" && word == "fullblock":
				fullBlock = true
			default:
				c.usagef("unrecognized %s '%s'", list.name, word)
			}
		}
	}
	if s := opt["status"]; s != "" && s != "none" && s != "noxfer" {
		c.usagef("unrecognized status '%s'", s)
	}
	if bs < 1 || bs > 1<<30 {
		c.usagef("invalid block size %d", bs)
	}
	if c.status != 0 {
		return
	}
	in, out := os.Stdin, os.Stdout
	var err error
	if name := opt["if"]; name != "" {
		if in, err = os.Open(name); err != nil {
			c.fail(name, err)
			return
		}
		defer in.Close()
	}
	if name := opt["of"]; name != "" {
		mode := os.O_CREATE | os.O_WRONLY
		if !noTrunc && seek == 0 {
			mode |= os.O_TRUNC
		}
		if out, err = os.OpenFile(name, mode, 0o666); err != nil {
			c.fail(name, err)
			return
		}
		defer out.Close()
		if seek > 0 {
			if !noTrunc {
				err = out.Truncate(seek * bs)
			}
			if err == nil {
				_, err = out.Seek(seek*bs, io.SeekStart)
			}
			if err != nil {
				c.fail(name, err)
				return
			}
		}
	}
	if skip > 0 {
		if _, err := in.Seek(skip*bs, io.SeekStart); err != nil {
			if _, err := io.CopyN(io.Discard, in, skip*bs); err != nil && err != io.EOF {
				c.fail("skip", err)
				return
			}
		}
	}
	buf := make([]byte, bs)
	var full, part, fullOut, partOut, total int64
	start := time.Now()
	for full+part < blocks {
		var n int
		if fullBlock {
			n, err = io.ReadFull(in, buf)
			if err == io.ErrUnexpectedEOF {
				err = nil
			}
		} else {
			n, err = in.Read(buf)
		}
		if n > 0 {
			if int64(n) == bs {
				full++
			} else {
				part++
			}
			m, werr := out.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				c.fail("write", werr)
				break
			}
			if int64(m) == bs {
				fullOut++
			} else {
				partOut++
			}
		}
		if err == io.EOF {
			break
		} else if err != nil {
			c.fail("read", err)
			break
		}
	}
	if fsync {
		if err := out.Sync(); err != nil {
			c.fail("fsync", err)
		}
	}
	if opt["status"] == "none" {
		return
	}
	fmt.Fprintf(os.Stderr, "%d+%d records in\n%d+%d records out\n", full, part, fullOut, partOut)
	if opt["status"] != "noxfer" {
		took := time.Since(start).Seconds()
		fmt.Fprintf(os.Stderr, "%d bytes copied, %.6f s, %.1f MB/s\n", total, took, float64(total)/1e6/max(took, 1e-9))
	}
}
