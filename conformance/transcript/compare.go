//go:build linux

package transcript

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference is one place where an answer of ours is not Docker's.
type Difference struct {
	Call         string // the script's name and the call's
	At           string // as status, header Location, body.State.Pid
	Docker, Ours string // JSON, or absent
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s: Docker %s, ours %s", d.Call, d.At, d.Docker, d.Ours)
}

const absent = "absent"

// Compare returns where the answers to a script differ.
func Compare(script string, docker, ours []Answer) (all []Difference) {
	for i := range docker {
		c := comparison{call: script + ": " + docker[i].Call}
		c.compare("status", docker[i].Status, ours[i].Status)
		for _, name := range names(docker[i].Header, ours[i].Header) {
			c.members("header "+name, name, docker[i].Header, ours[i].Header)
		}
		c.compare("body", docker[i].Body, ours[i].Body)
		all = append(all, c.found...)
	}
	return all
}

type comparison struct {
	call  string
	found []Difference
}

func (c *comparison) compare(at string, docker, ours any) {
	d, dok := docker.(map[string]any)
	o, ook := ours.(map[string]any)
	if dok && ook {
		for _, name := range names(d, o) {
			c.members(at+"."+name, name, d, o)
		}
		return
	}
	dl, dok := docker.([]any)
	ol, ook := ours.([]any)
	if dok && ook {
		for i := range max(len(dl), len(ol)) {
			switch {
			case i >= len(ol):
				c.add(fmt.Sprintf("%s[%d]", at, i), text(dl[i]), absent)
			case i >= len(dl):
				c.add(fmt.Sprintf("%s[%d]", at, i), absent, text(ol[i]))
			default:
				c.compare(fmt.Sprintf("%s[%d]", at, i), dl[i], ol[i])
			}
		}
		return
	}
	if a, b := text(docker), text(ours); a != b {
		c.add(at, a, b)
	}
}

func (c *comparison) members(at, name string, docker, ours map[string]any) {
	d, dok := docker[name]
	o, ook := ours[name]
	switch {
	case !ook:
		c.add(at, text(d), absent)
	case !dok:
		c.add(at, absent, text(o))
	default:
		c.compare(at, d, o)
	}
}

func (c *comparison) add(at, docker, ours string) {
	c.found = append(c.found, Difference{Call: c.call, At: at, Docker: docker, Ours: ours})
}

func names(a, b map[string]any) []string {
	all := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	slices.Sort(all)
	return slices.Compact(all)
}

func text(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Explanation says why answers differ. In its patterns, * stands for any text.
type Explanation struct {
	Calls string // as "life: *"; there may be several, with | between them
	At    string // as the calls
	// If not empty, what Docker answers there, and what we do.
	Docker, Ours string

	Why string
}

// Covers says whether e explains d.
func (e Explanation) Covers(d Difference) bool {
	return matches(e.Calls, d.Call) && matches(e.At, d.At) &&
		(e.Docker == "" || glob(e.Docker, d.Docker)) && (e.Ours == "" || glob(e.Ours, d.Ours))
}

func matches(patterns, text string) bool {
	return slices.ContainsFunc(strings.Split(patterns, "|"), func(p string) bool { return glob(p, text) })
}

func glob(pattern, text string) bool {
	first, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	for ok && !glob(rest, text) {
		if ok = text != ""; ok {
			text = text[1:]
		}
	}
	return ok
}
