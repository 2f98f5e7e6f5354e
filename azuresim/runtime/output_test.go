//go:build linux

package runtime

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestSplitLines(t *testing.T) {
	full := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":                     {"", nil},
		"lines":                       {"a\nb\n", []string{"a", "b"}},
		"no newline at the end":       {"a\nb", []string{"a", "b"}},
		"empty lines":                 {"\n\na\n\n", []string{"", "", "a", ""}},
		"carriage returns stay":       {"a\r\n", []string{"a\r"}},
		"a full line":                 {full + "\nb\n", []string{full, "b"}},
		"a full line without newline": {full, []string{full}},
		"one byte too many":           {full + "y\nb\n", []string{full, "y", "b"}},
		"two full pieces":             {full + full + "\n", []string{full, full}},
		"many full pieces":            {strings.Repeat(full, 9) + "end\n", append(slices.Repeat([]string{full}, 9), "end")},
	} {
		t.Run(name, func(t *testing.T) {
			var got, slow []string
			splitLines(strings.NewReader(c.in), func(line []byte) { got = append(got, string(line)) })
			splitLines(iotest.OneByteReader(strings.NewReader(c.in)), func(line []byte) { slow = append(slow, string(line)) })
			if !slices.Equal(got, c.want) || !slices.Equal(slow, c.want) {
				t.Errorf("%d lines, byte by byte %d, want %d", len(got), len(slow), len(c.want))
			}
		})
	}
}

func FuzzSplitLines(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), uint8(1))
	f.Add(bytes.Repeat([]byte("x"), 3*maxLine+1), uint8(200))
	f.Fuzz(func(t *testing.T, data []byte, repeat uint8) {
		data = bytes.Repeat(data, int(repeat))
		if len(data) > 1<<20 {
			return
		}
		newlines, bytesIn := 0, 0
		splitLines(bytes.NewReader(data), func(line []byte) {
			if len(line) > maxLine || bytes.IndexByte(line, '\n') >= 0 {
				t.Fatalf("a line of %d bytes", len(line))
			}
			rest := data[bytesIn:]
			if !bytes.HasPrefix(rest, line) {
				t.Fatal("other bytes than went in")
			}
			bytesIn += len(line)
			if rest = rest[len(line):]; len(rest) > 0 && rest[0] == '\n' {
				bytesIn++
				newlines++
			}
		})
		if bytesIn != len(data) || newlines != bytes.Count(data, []byte("\n")) {
			t.Fatalf("%d of %d bytes, %d newlines", bytesIn, len(data), newlines)
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("a $(A) $$(A) $(B) $")
	f.Fuzz(func(t *testing.T, s string) {
		got := expand(s, map[string]string{"A": "value"})
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("expand(%q) = %q", s, got)
		}
		if escaped := strings.ReplaceAll(s, "$", "$$"); expand(escaped, map[string]string{"A": "value"}) != s {
			t.Errorf("the escaped %q does not come back", s)
		}
	})
}
