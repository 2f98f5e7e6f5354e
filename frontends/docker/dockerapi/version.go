package dockerapi

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sockerless/sockerless"
)

// version is a version of the Engine API.
type version struct{ major, minor int }

// The versions that are spoken: none older is refused without need (clients break over it), none newer is claimed
// whose shapes are not right.
var (
	minVersion = version{1, 24}
	maxVersion = version{1, 56}
)

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// before says whether v is older than 1.minor.
func (v version) before(minor int) bool { return v.less(version{1, minor}) }

func (v version) less(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

func (v version) supported() error {
	switch {
	case v.less(minVersion):
		return sockerless.Errorf(sockerless.EINVALID,
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, minVersion)
	case maxVersion.less(v):
		return sockerless.Errorf(sockerless.EINVALID,
			"client version %s is too new. Maximum supported API version is %s", v, maxVersion)
	}
	return nil
}

// splitVersion takes the version off the front of a path; a path without one asks for the newest. A
// prefix that looks like a version and is none leads to no page.
func splitVersion(path string) (rest string, v version, err error) {
	text, found := strings.CutPrefix(path, "/v")
	if !found || text == "" || text[0] < '0' || text[0] > '9' {
		return path, maxVersion, nil
	}
	text, rest, _ = strings.Cut(text, "/")
	major, minor, _ := strings.Cut(text, ".")
	v.major, err = strconv.Atoi(major)
	if err == nil && minor != "" {
		v.minor, err = strconv.Atoi(minor)
	}
	if err != nil {
		err = errNoPage
	}
	return "/" + rest, v, err
}
