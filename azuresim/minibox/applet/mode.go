package applet

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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
		_ = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
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
