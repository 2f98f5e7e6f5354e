package schematest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Specs are the specifications of all versions in a folder; each is read when it is first asked for, which takes a
// second. They are safe for concurrent use.
type Specs struct {
	dir    string
	minors []int // of version 1, sorted

	mu   sync.Mutex
	read map[int]*Spec
}

// Open looks which versions are in the folder that Dir returns. It is fs.ErrNotExist if there are none.
func Open() (*Specs, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "v1.*.yaml"))
	if err != nil {
		return nil, err
	}
	s := &Specs{dir: dir, read: map[int]*Spec{}}
	for _, file := range files {
		minor, ok := minorOf(strings.TrimSuffix(filepath.Base(file), ".yaml"))
		if !ok {
			return nil, fmt.Errorf("%s is no version's specification", file)
		}
		s.minors = append(s.minors, minor)
	}
	if slices.Sort(s.minors); len(s.minors) == 0 {
		return nil, &os.PathError{Op: "find a specification in", Path: dir, Err: fs.ErrNotExist}
	}
	return s, nil
}

// Newest returns the specification of the newest version that there is one of, and that version.
func (s *Specs) Newest() (*Spec, string, error) {
	minor := s.minors[len(s.minors)-1]
	spec, err := s.minor(minor)
	return spec, "1." + strconv.Itoa(minor), err
}

// errOlder says that a version is older than all specifications.
var errOlder = errors.New("no specification is as old")

// For returns what a version ("1.47") is held to: its own specification, or that of the next older version.
func (s *Specs) For(version string) (*Spec, error) {
	minor, ok := minorOf("v" + version)
	if !ok {
		return nil, fmt.Errorf("%q is no version", version)
	}
	for _, have := range slices.Backward(s.minors) {
		if have <= minor {
			return s.minor(have)
		}
	}
	return nil, errOlder
}

func (s *Specs) minor(minor int) (*Spec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if spec := s.read[minor]; spec != nil {
		return spec, nil
	}
	spec, err := Load(s.dir, "1."+strconv.Itoa(minor))
	if err == nil {
		s.read[minor] = spec
	}
	return spec, err
}

// minorOf reads v1.47.
func minorOf(text string) (int, bool) {
	rest, ok := strings.CutPrefix(text, "v1.")
	minor, err := strconv.Atoi(rest)
	return minor, ok && err == nil
}

// versionOf returns the version that a path asks for; empty if it has none.
func versionOf(path string) string {
	if withoutVersion(path) == path {
		return ""
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(path, "/v"), "/")
	return version
}
