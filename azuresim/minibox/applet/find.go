package applet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// find is find [path...] [expression], where the expression is a row of tests and actions that must all hold; `!` turns one round.
func find(c *call) {
	args := c.args
	var roots []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "!" {
		roots, args = append(roots, args[0]), args[1:]
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	type step func(path string, d fs.DirEntry) bool
	var steps []step
	minDepth, maxDepth := 0, 1<<30
	acts := false
	negate := false
	add := func(s step) {
		if negate {
			inner := s
			s = func(p string, d fs.DirEntry) bool { return !inner(p, d) }
			negate = false
		}
		steps = append(steps, s)
	}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		value := ""
		switch word {
		case "-name", "-iname", "-path", "-type", "-maxdepth", "-mindepth", "-size", "-newer", "-user":
			if len(args) == 0 {
				c.usagef("missing argument to '%s'", word)
				return
			}
			value, args = args[0], args[1:]
		}
		switch word {
		case "!", "-not":
			negate = !negate
			continue
		case "-a", "-and":
		case "-name", "-iname", "-path":
			fold := func(s string) string { return s }
			if word == "-iname" {
				fold = strings.ToLower
			}
			if _, err := path.Match(value, ""); err != nil {
				c.usagef("bad pattern '%s'", value)
				return
			}
			add(func(p string, d fs.DirEntry) bool {
				subject := d.Name()
				if word == "-path" {
					// In -path, * matches slashes too.
					ok, _ := path.Match(strings.ReplaceAll(value, "/", "\x01"), strings.ReplaceAll(p, "/", "\x01"))
					return ok
				}
				ok, _ := path.Match(fold(value), fold(subject))
				return ok
			})
		case "-type":
			kinds := map[string]fs.FileMode{"f": 0, "d": fs.ModeDir, "l": fs.ModeSymlink, "p": fs.ModeNamedPipe, "s": fs.ModeSocket, "c": fs.ModeDevice | fs.ModeCharDevice, "b": fs.ModeDevice}
			kind, ok := kinds[value]
			if !ok {
				c.usagef("unknown type '%s'", value)
				return
			}
			add(func(_ string, d fs.DirEntry) bool { return d.Type() == kind })
		case "-maxdepth", "-mindepth":
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				c.usagef("invalid depth '%s'", value)
				return
			}
			if word == "-maxdepth" {
				maxDepth = n
			} else {
				minDepth = n
			}
		case "-size":
			n, unit := strings.TrimLeft(value, "+-"), int64(512)
			if i := strings.IndexAny(n, "ckMG"); i == len(n)-1 && i > 0 {
				unit = map[byte]int64{'c': 1, 'k': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}[n[i]]
				n = n[:i]
			}
			want, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				c.usagef("invalid size '%s'", value)
				return
			}
			add(func(_ string, d fs.DirEntry) bool {
				info, err := d.Info()
				if err != nil {
					return false
				}
				have := (info.Size() + unit - 1) / unit
				switch value[0] {
				case '+':
					return have > want
				case '-':
					return have < want
				}
				return have == want
			})
		case "-newer":
			than, err := os.Stat(value)
			if err != nil {
				c.fail(value, err)
				return
			}
			add(func(_ string, d fs.DirEntry) bool {
				info, err := d.Info()
				return err == nil && info.ModTime().After(than.ModTime())
			})
		case "-empty":
			add(func(p string, d fs.DirEntry) bool {
				if d.IsDir() {
					list, err := os.ReadDir(p)
					return err == nil && len(list) == 0
				}
				info, err := d.Info()
				return err == nil && info.Mode().IsRegular() && info.Size() == 0
			})
		case "-print", "-print0":
			end := "\n"
			if word == "-print0" {
				end = "\x00"
			}
			acts = true
			add(func(p string, _ fs.DirEntry) bool { fmt.Fprint(c.out, p, end); return true })
		case "-delete":
			c.usagef("cannot use -delete: use -exec rm -r {} ';'")
			return
		case "-exec":
			var command []string
			for len(args) > 0 && args[0] != ";" {
				command, args = append(command, args[0]), args[1:]
			}
			if len(args) == 0 || len(command) == 0 {
				c.usagef("-exec needs a command that ends with ';'")
				return
			}
			args = args[1:]
			acts = true
			add(func(p string, _ fs.DirEntry) bool {
				argv := make([]string, len(command))
				for i, a := range command {
					argv[i] = strings.ReplaceAll(a, "{}", p)
				}
				c.out.flush()
				cmd := exec.CommandContext(context.Background(), argv[0], argv[1:]...)
				cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
				err := cmd.Run()
				var exit *exec.ExitError
				if err != nil && !errors.As(err, &exit) {
					c.fail(argv[0], err)
				}
				return err == nil
			})
		default:
			c.usagef("unrecognized expression '%s'", word)
			return
		}
	}
	for _, root := range roots {
		base := strings.Count(strings.TrimRight(filepath.Clean(root), "/"), "/")
		_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				c.fail(p, err)
				return nil
			}
			depth := 0
			if p != root {
				depth = strings.Count(filepath.Clean(p), "/") - base
				if root == "." {
					depth = strings.Count(p, "/") + 1
					p = "./" + p
				}
			}
			if depth >= minDepth {
				all := true
				for _, s := range steps {
					if all = s(p, d); !all {
						break
					}
				}
				if all && !acts {
					fmt.Fprintln(c.out, p)
				}
			}
			if d.IsDir() && depth >= maxDepth {
				return filepath.SkipDir
			}
			return nil
		})
	}
}

// walkFiles lists the regular files below paths (default: the current folder) for grep -r.
func (c *call) walkFiles(paths []string) []string {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var files []string
	for _, root := range paths {
		_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				c.fail(p, err)
			} else if d.Type().IsRegular() || p == root && !d.IsDir() {
				files = append(files, p)
			}
			return nil
		})
	}
	return files
}
