package applet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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
			_ = os.Remove(c.args[1]) // as link tells
		}
	}
	sources, target, ok := c.intoFolder()
	if !ok {
		return
	}
	for _, name := range sources {
		dst := target(name)
		if f.has('f') {
			_ = os.Remove(dst) // as link tells
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
		c.out.text(to)
		if !f.has('n') {
			c.out.newline()
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
