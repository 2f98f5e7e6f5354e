package applet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

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
		c.out.flush()
		for i, ff := range files {
			// A file that shrank was truncated and is read from its start, as tail -f does.
			if st, err := ff.file.Stat(); err == nil && st.Mode().IsRegular() {
				if at, err := ff.file.Seek(0, io.SeekCurrent); err == nil && st.Size() < at {
					fmt.Fprintf(os.Stderr, "tail: %s: file truncated\n", ff.name)
					_, _ = ff.file.Seek(0, io.SeekStart) // it could seek a line ago
				}
			}
			for {
				n, err := ff.file.Read(buf)
				if n > 0 {
					if i != current && !f.has('q') {
						c.title(ff.name, false)
						current = i
					}
					c.out.bytes(buf[:n]...)
					c.out.flush()
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
		if _, err := io.CopyN(io.Discard, r, max(n-1, 0)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, err := io.Copy(c.out, r)
		return err
	}
	at := int64(0)
	return lines(r, func(line []byte, newline bool) bool {
		if at++; at >= n {
			c.out.bytes(line...)
			if newline {
				c.out.newline()
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
		_, _ = file.Seek(0, io.SeekStart) // shorter than n, or a pipe
		var keep []byte
		buf := make([]byte, 64<<10)
		for {
			m, err := file.Read(buf)
			keep = append(keep, buf[:m]...)
			if over := int64(len(keep)) - n; over > 0 {
				keep = append(keep[:0], keep[over:]...)
			}
			if errors.Is(err, io.EOF) {
				c.out.bytes(keep...)
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
		c.out.bytes(ring[(next+i)%len(ring)]...)
	}
	return err
}
