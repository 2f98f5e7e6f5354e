package applet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

func dd(c *call) {
	opt := map[string]string{}
	for _, a := range c.args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || !slices.Contains([]string{"if", "of", "bs", "ibs", "obs", "count", "skip", "seek", "status", "conv", "iflag", "oflag"}, k) {
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
	var inDirect, outDirect int // what open is told, too
	for _, list := range []struct{ value, name string }{{opt["conv"], "conv"}, {opt["iflag"], "iflag"}, {opt["oflag"], "oflag"}} {
		for word := range strings.SplitSeq(list.value, ",") {
			switch {
			case word == "":
			case list.name == "conv" && word == "notrunc":
				noTrunc = true
			case list.name == "conv" && (word == "fsync" || word == "fdatasync"):
				fsync = true
			case list.name == "iflag" && word == "fullblock":
				fullBlock = true
			case list.name == "iflag" && word == "direct":
				inDirect = syscall.O_DIRECT
			case list.name == "oflag" && word == "direct":
				outDirect = syscall.O_DIRECT
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
		if in, err = os.OpenFile(name, os.O_RDONLY|inDirect, 0); err != nil {
			c.fail(name, err)
			return
		}
		defer in.Close()
	}
	if name := opt["of"]; name != "" {
		mode := os.O_CREATE | os.O_WRONLY | outDirect
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
			if _, err := io.CopyN(io.Discard, in, skip*bs); err != nil && !errors.Is(err, io.EOF) {
				c.fail("skip", err)
				return
			}
		}
	}
	buf := make([]byte, bs) // at a page, which is what O_DIRECT wants, if it is of whole pages
	var full, part, fullOut, partOut, total int64
	start := time.Now()
	for full+part < blocks {
		var n int
		if fullBlock {
			n, err = io.ReadFull(in, buf)
			if errors.Is(err, io.ErrUnexpectedEOF) {
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
		if errors.Is(err, io.EOF) {
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
