package fields

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sockerless/sockerless"
)

// CheckImage says whether an image can be run as asked. What the image's config asks for and cannot be had is a warning,
// since its user did not ask for it; a program that cannot work at all here is EUNSUPPORTED. As with Check, req is the
// request as the client sent it.
func CheckImage(img *sockerless.Image, req *sockerless.CreateRequest) (warnings []string, err error) {
	name := req.Config.Image
	if !RunsPlatform(img.Platform) {
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot run %s: the image is made for %s, and Container Apps runs linux/amd64 only", short(name), img.Platform)
	}
	d := img.Defaults
	if d == nil {
		return nil, nil
	}
	entrypoint, cmd := req.Config.Entrypoint, req.Config.Cmd
	if len(entrypoint) == 0 {
		entrypoint = d.Entrypoint
		if len(cmd) == 0 {
			cmd = d.Cmd
		}
	}
	if argv := slices.Concat(entrypoint, cmd); len(argv) > 0 && mustBeFirst(argv[0]) {
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot run %s: %s must be process 1, and that is the agent; use --entrypoint to run a program of the image", short(name), short(argv[0]))
	}
	if len(d.Volumes) > 0 {
		paths := slices.Sorted(maps.Keys(d.Volumes))
		warnings = append(warnings, "the image's VOLUME "+short(strings.Join(paths, " "))+
			" is an ordinary folder: what is written there goes with the container's file system")
	}
	return warnings, nil
}

// mustBeFirst knows the init systems that refuse to run as anything but process 1: s6-overlay's /init says so itself
// (just-containers/s6-overlay), systemd exits with "Trying to run as user instance" (systemd(1)).
func mustBeFirst(program string) bool {
	switch path.Clean(program) {
	case "/init", "/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd":
		return true
	}
	return false
}
