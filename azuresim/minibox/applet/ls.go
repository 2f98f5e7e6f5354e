package applet

import (
	"cmp"
	"errors"
	"fmt"
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
				size = fmt.Sprintf("%d, %d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
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
			rows = append(rows, []string{inode + modeString(e.info.Mode()), fmt.Sprint(st.Nlink), user, group, size, stamp, name})
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
				c.out.newline()
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
