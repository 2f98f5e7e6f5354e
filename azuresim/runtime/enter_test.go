//go:build linux

package runtime

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
)

// ordinary is a simulator started by an ordinary user; see TestAnOrdinaryUser.
func ordinary(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(9)
		}
	}
	fail(Enter())
	rt, err := New(Options{Dir: dir})
	fail(err)
	host = os.Getenv("AZURESIM_TEST_REGISTRY")
	r, err := rt.Start(context.Background(), azuresim.ReplicaSpec{
		Name: "ordinary", EmptyDirs: []string{"data"},
		Init: []azuresim.ContainerSpec{{Name: "init", Image: box(), Command: []string{"sh", "-c", "echo init > /data/x"}, Mounts: []azuresim.Mount{{Volume: "data", Path: "/data"}}}},
		Containers: []azuresim.ContainerSpec{{Name: "main", Image: box(), Mounts: []azuresim.Mount{{Volume: "data", Path: "/data"}},
			Command: []string{"sh", "-c", "id -u; hostname; cat /data/x; echo $$$$; nc -z " + hostName + " " + host[strings.LastIndex(host, ":")+1:] + " && echo reached; exit 5"}}},
		Output: func(_, stream string, line []byte) { fmt.Println(stream, string(line)) },
		Events: func(e azuresim.Event) {
			if e.Type == "Warning" {
				fmt.Println(e.Reason, e.Message)
			}
		},
	})
	fail(err)
	<-r.Done()
	result := r.Result()
	fail(result.Err)
	fmt.Println("code", result.Containers[len(result.Containers)-1].ExitCode)
	if rt.single {
		fmt.Println("single")
	} else {
		r, err := rt.Start(context.Background(), azuresim.ReplicaSpec{
			Name: "user", Containers: []azuresim.ContainerSpec{{Name: "main", Image: host + "/user:ordinary", Command: []string{"id", "-un"}}},
			Output: func(_, stream string, line []byte) { fmt.Println("user", string(line)) },
		})
		fail(err)
		<-r.Done()
		fail(r.Result().Err)
	}
	fail(rt.Close())
	os.Exit(3)
}

func TestAnOrdinaryUser(t *testing.T) {
	need(t)
	dir, err := os.MkdirTemp("", "azuresim-ordinary-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const nobody = 65534
	// Go's own folders for tests are closed to others.
	program := filepath.Join(dir, "simulator")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	tun := filepath.Join(dir, "tun")
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(data, 0o700), os.Chown(data, nobody, nobody),
		unix.Mknod(tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	variant(t, "user:ordinary", func(c *v1.Config) { c.User = "app" })
	cmd := exec.Command(program)
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "AZURESIM_TEST_ORDINARY=" + data, "AZURESIM_TEST_REGISTRY=" + host}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = "/"
	var text []byte
	err = onThread(func() (err error) {
		// Most systems let everybody open /dev/net/tun; where this one does not, the child sees another.
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, ""); err != nil {
			return err
		}
		text, _ = cmd.CombinedOutput() // its status is looked at below
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "cannot run replicas as an ordinary user") {
		t.Skipf("this machine does not let ordinary users make namespaces: %s", text)
	}
	got := string(text)
	for _, want := range []string{"stdout 0\nstdout ordinary\nstdout init\nstdout 1\nstdout reached\n", "code 5\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in what it said:\n%s", want, got)
		}
	}
	if !strings.Contains(got, "single\n") && !strings.Contains(got, "user app\n") {
		t.Errorf("neither one user nor the image's in what it said:\n%s", got)
	}
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("ended with %d, want the inner process's 3", code)
	}
}
