//go:build linux

// Package transcript asks Docker hosts the same raw calls of the Engine API and compares what they answer.
//
// The calls are data: a Script in scripts/ is one conversation, each call on a few lines (see Parse). Play holds the
// conversation with a host and returns its answers, in which what is another each time is replaced by words. Those of a
// dockerd are kept in answers/. Compare finds where two transcripts differ, and Known says why we differ from dockerd where
// we do: a difference that it does not know is a defect, and so is one that it knows and that is not there any more.
package transcript

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Script is one conversation. It begins on a host without containers, networks and volumes.
type Script struct {
	Name  string
	Calls []Call
}

// Call is one request. A word $NAME in its path, headers and body stands for what an earlier call kept, for $IMAGE, $IMAGE_ID,
// or for the time: $START is when the script began, $NOW is now, in seconds with a fraction.
type Call struct {
	Name         string
	Method, Path string // the path with its query, unescaped
	Version      string // of the API, in the path; empty: none
	Header       map[string]string
	Body         string
	Tar          []entry // instead of Body

	Keep   map[string]string // name: place in the answer's body
	Until  [2]string         // place and value, or none: the call is repeated until it says so
	Shape  []string          // fields of the body of which only the shape is kept; "." is all
	Drop   []string          // fields of the body that are left out: they are the machine's
	Sorted bool              // the body is a list without an order
	Only   *regexp.Regexp    // the names of a tar's entries that are kept
	Stdin  *string           // the connection is taken over, and this is sent
	Within time.Duration     // the time after which an answer that goes on is left
	Behind bool              // the answer is read after all other calls; what comes next waits for its headers alone
}

// Version is what the calls speak unless they say otherwise: the newest that the recorded dockerd knows.
const Version = "1.41"

//go:embed scripts/*.calls
var scripts embed.FS

// Scripts returns all conversations, in the order of their names.
func Scripts() ([]Script, error) {
	files, err := scripts.ReadDir("scripts")
	if err != nil {
		return nil, err
	}
	var all []Script
	for _, f := range files {
		text, err := scripts.ReadFile(path.Join("scripts", f.Name()))
		if err != nil {
			return nil, err
		}
		s, err := Parse(strings.TrimSuffix(f.Name(), ".calls"), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Parse reads a script:
//
//	# a remark
//	= name of the call
//	POST /containers/create?name=box
//	  body {"Image":"$IMAGE"}
//	  keep BOX .Id
//
// The words that a call's lines may begin with are body, tar, header, keep, until, shape, drop, sorted, only, stdin, within, version and
// behind;
// each fills the field of its name.
func Parse(name, text string) (Script, error) {
	s := Script{Name: name}
	var c *Call
	for i, line := range strings.Split(text, "\n") {
		var err error
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "= "):
			title := line[2:]
			if slices.ContainsFunc(s.Calls, func(c Call) bool { return c.Name == title }) {
				err = fmt.Errorf("%q is there twice", title)
			}
			s.Calls = append(s.Calls, Call{Name: title, Version: Version, Header: map[string]string{}, Keep: map[string]string{}})
			c = &s.Calls[len(s.Calls)-1]
		case c == nil:
			err = fmt.Errorf("a call begins with its name")
		case strings.HasPrefix(line, "  "):
			word, rest, _ := strings.Cut(line[2:], " ")
			err = c.parse(word, rest)
		default:
			var ok bool
			c.Method, c.Path, ok = strings.Cut(line, " ")
			if !ok {
				err = fmt.Errorf("%q is no call", line)
			}
		}
		if err != nil {
			return s, fmt.Errorf("%s.calls:%d: %w", name, i+1, err)
		}
	}
	return s, nil
}

func (c *Call) parse(word, rest string) (err error) {
	switch word {
	case "body":
		c.Body = rest
	case "tar":
		err = json.Unmarshal([]byte(rest), &c.Tar)
	case "header":
		name, value, ok := strings.Cut(rest, ": ")
		if !ok {
			return fmt.Errorf("%q is no header", rest)
		}
		c.Header[name] = value
	case "keep":
		name, place, ok := strings.Cut(rest, " ")
		if !ok {
			return fmt.Errorf("keep a name and a place, not %q", rest)
		}
		c.Keep[name] = place
	case "until":
		place, value, _ := strings.Cut(rest, " ")
		c.Until = [2]string{place, value}
	case "shape":
		c.Shape = strings.Fields(rest)
	case "drop":
		c.Drop = strings.Fields(rest)
	case "sorted":
		c.Sorted = true
	case "only":
		c.Only, err = regexp.Compile(rest)
	case "stdin":
		var text string
		err = json.Unmarshal([]byte(rest), &text)
		c.Stdin = &text
	case "within":
		c.Within, err = time.ParseDuration(rest)
	case "version":
		c.Version = rest
	case "behind":
		c.Behind = true
	default:
		err = fmt.Errorf("no such word: %s", word)
	}
	return err
}
