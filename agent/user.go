package agent

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// identity is who a process runs as.
type identity struct {
	uid, gid int
	groups   []int
	home     string
	change   bool // the agent is someone else, and may become this
}

// findIdentity resolves name|uid[:group|gid] and additional groups in the container's own passwd and group. Numbers
// need not be in them. An empty spec is what the agent runs as.
func findIdentity(spec string, added []string) (identity, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	own, err := os.Getgroups()
	if err != nil {
		return identity{}, fmt.Errorf("cannot read the agent's groups: %w", err)
	}
	id := identity{uid: uid, gid: gid, groups: own, home: "/"}
	defaults := &user.ExecUser{Home: "/"} // so a number that is not in passwd has group 0, as with dockerd
	if spec == "" {
		defaults.Uid, defaults.Gid = uid, gid
	}
	found, err := findUser(spec, defaults)
	if err != nil {
		return identity{}, wire.Errorf(protocol.CodeNoUser, "%v", err)
	}
	if found.Home != "" {
		id.home = found.Home
	}
	if spec != "" {
		id.uid, id.gid, id.groups = found.Uid, found.Gid, found.Sgids
	}
	if len(added) > 0 {
		group, done := openUsers(groupFile)
		more, err := user.GetAdditionalGroups(added, group)
		done()
		if err != nil {
			return identity{}, wire.Errorf(protocol.CodeNoUser, "%v", err)
		}
		id.groups = append(slices.Clone(id.groups), more...)
		if !id.mayChange() && !contains(withGroup(own, gid), more) {
			return identity{}, wire.Errorf(protocol.CodeWrongUser,
				"cannot add the groups %v: the container runs as uid %d and may not change its groups", added, uid)
		}
	}
	id.groups = withGroup(id.groups, id.gid)
	if id.uid == uid && id.gid == gid && sameGroups(id.groups, own) {
		return id, nil
	}
	if id.mayChange() {
		id.change = true
		return id, nil
	}
	if id.uid != uid || id.gid != gid {
		return identity{}, wire.Errorf(protocol.CodeWrongUser,
			"cannot run as user %q (uid %d, gid %d): the container runs as uid %d, gid %d and may not become another user", spec, id.uid, id.gid, uid, gid)
	}
	// The platform has chosen the groups that come with the user; without the right to change them, they stay.
	id.groups = own
	return id, nil
}

// findUser resolves name|uid[:group|gid].
func findUser(spec string, defaults *user.ExecUser) (*user.ExecUser, error) {
	passwd, done := openUsers(passwdFile)
	defer done()
	group, groupDone := openUsers(groupFile)
	defer groupDone()
	return user.GetExecUser(spec, defaults, passwd, group)
}

// maxUserList is how much of a list of users or groups is read.
const maxUserList = 16 << 20

// openUsers opens a list of users or groups; empty if there is none. The container may have made anything of it: a
// pipe would never be opened.
func openUsers(path string) (r io.Reader, done func()) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return strings.NewReader(""), func() {}
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return strings.NewReader(""), func() {}
	}
	return io.LimitReader(f, maxUserList), func() { f.Close() }
}

// mayChange says whether the agent may become any user.
func (identity) mayChange() bool {
	return hasCapability(unix.CAP_SETUID) && hasCapability(unix.CAP_SETGID)
}

// credential is nil if nothing is to change.
func (id identity) credential() *syscall.Credential {
	if !id.change {
		return nil
	}
	groups := make([]uint32, len(id.groups))
	for i, g := range id.groups {
		groups[i] = uint32(g)
	}
	return &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid), Groups: groups}
}

// may says whether the identity has all the permission bits of want (of rwx, as in 5) on a file.
func (id identity) may(st *unix.Stat_t, want uint32) bool {
	mode := st.Mode & 7
	switch {
	case id.uid == 0:
		return st.Mode&unix.S_IFMT == unix.S_IFDIR || want&1 == 0 || st.Mode&0o111 != 0
	case int(st.Uid) == id.uid:
		mode = st.Mode >> 6 & 7
	case int(st.Gid) == id.gid || slices.Contains(id.groups, int(st.Gid)):
		mode = st.Mode >> 3 & 7
	}
	return mode&want == want
}

func hasCapability(n int) bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[n/32].Effective&(1<<(n%32)) != 0
}

// withGroup returns the groups, each once, with a primary one among them: a process that is in its primary group only by
// its gid leaves it when a set-gid program runs, so dockerd has it among the others too.
func withGroup(groups []int, gid int) []int {
	all := append(slices.Clone(groups), gid)
	slices.Sort(all)
	return slices.Compact(all)
}

func sameGroups(a, b []int) bool { return contains(a, b) && contains(b, a) }

func contains(all, some []int) bool {
	return !slices.ContainsFunc(some, func(g int) bool { return !slices.Contains(all, g) })
}
