package e2e

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sockerless/sockerless/azuresim/minibox"
)

// needs says which commands fail for want of each right of the Terraform module, and what they say then; all others go on.
var needs = map[string]map[string]string{
	"jobs":          {"run": `403 AuthorizationFailed: The client '[0-9a-f-]+' with object id '[0-9a-f-]+' does not have authorization to perform action 'Microsoft\.App/jobs/write' over scope '/subscriptions/[0-9a-f-]+/resourceGroups/rg-myproject-staging/providers/Microsoft\.App/jobs/sl-[0-9a-f]+'`},
	"environment":   {"run": `403 LinkedAuthorizationFailed: .* does not have permission to perform action\(s\) 'Microsoft\.App/managedEnvironments/join/action' on the linked scope\(s\) '[^']*/managedEnvironments/cae-myproject-staging'`},
	"pull_identity": {"run": `403 LinkedAuthorizationFailed: .* does not have permission to perform action\(s\) 'Microsoft\.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope\(s\) '[^']*/userAssignedIdentities/id-myproject-staging-pull'`},
	"pull":          {"run": `400 InvalidParameterValueInContainerTemplate: .*unable to pull from registry localhost:\d+ using Managed identity [^ ]*/id-myproject-staging-pull`},
	"push":          {"pull": `denied`, "push": `denied`, "load": `denied`},
	"logs":          {"logs of an earlier disk": `403 InsufficientAccessError: The provided credentials have insufficient access to perform the requested operation`},
	// Without a state there is no backend at all: see below.
	"tables": nil,
}

// diagnosed says which of doctor's quick checks fail for want of each right. That the identity on the jobs may not pull takes a job to
// find out.
var diagnosed = map[string][]string{
	"": nil, "jobs": {"jobs"}, "environment": {"join"}, "pull_identity": {"identity"}, "pull": nil, "push": {"registry"}, "logs": {"logs"}, "tables": {"state"},
}

var failedCheck = regexp.MustCompile(`(?m)^FAIL ([a-z]+): `)

// diagnose runs `sockerless doctor -quick` as the backend.
func diagnose(t *testing.T, m *machine, without string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(m.bin, "sockerless"), "doctor", "-quick")
	cmd.Env = append(m.simEnv(), "HOME="+m.dir, "PATH="+os.Getenv("PATH"), "SOCKERLESS_CALLBACK_URL=http://host.azuresim.internal:9100")
	out, err := cmd.CombinedOutput()
	var failed []string
	for _, found := range failedCheck.FindAllSubmatch(out, -1) {
		failed = append(failed, string(found[1]))
	}
	if !slices.Equal(failed, diagnosed[without]) || (err == nil) != (len(failed) == 0) {
		t.Errorf("without the right %q, doctor ends with %v and finds that %v fail, want %v:\n%s", without, err, failed, diagnosed[without], out)
	}
}

// TestRights runs a backend with the identity and the rights that the Terraform module makes, and takes each right from it in
// turn: what needs it fails with Azure's sentence, nothing else does, and doctor finds it.
func TestRights(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sl-e2e-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{bin: programs(t), dir: dir, mode: "reverse", socket: filepath.Join(dir, "d.sock"), settings: []string{"SOCKERLESS_ACA_LINGER=0s"},
		report: func(err error) { t.Error(err) }}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Log(m.logs())
		}
		m.remove()
	})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m.port, err = freePort()
	check(err)
	check(m.startSimulator([]string{"-calm"}))
	mod := makeModule(t, m.sim)
	if all := slices.Sorted(maps.Keys(mod.rights)); !slices.Equal(all, slices.Sorted(maps.Keys(needs))) {
		t.Fatalf("the module's rights are %v, and of these it is known who needs them: %v", all, slices.Sorted(maps.Keys(needs)))
	}
	m.sim.env = mod.env
	check(m.startBackend())
	check(m.startFrontend())
	docker := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "docker", args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+m.socket, "HOME="+dir, "DOCKER_CONFIG="+filepath.Join(dir, "docker"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	works := func(args ...string) {
		t.Helper()
		if out, err := docker(args...); err != nil {
			t.Fatalf("docker %v: %v\n%s", args, err, out)
		}
	}
	up := func() {
		t.Helper()
		eventually(t, "the backend answers", func() bool {
			_, err := docker("version")
			return err == nil
		})
	}
	up()

	image, archive := mod.env["SOCKERLESS_ACA_ACR"]+"/minibox:latest", filepath.Join(dir, "minibox.tar")
	check(saveMinibox(m.bin, archive, image))
	works("load", "-i", archive)
	works("push", image)
	works("run", "--name", "old", image, "echo", "from the archive")
	eventually(t, "the container's execution ends", func() bool {
		jobs, err := m.sim.jobs()
		check(err)
		return len(jobs) == 1 && len(jobs[0].Executions) == 1 && jobs[0].Executions[0].Status == "Succeeded"
	})
	// A new machine, without the disk of the one before.
	check(m.backend.end(syscall.SIGTERM))
	check(os.RemoveAll(filepath.Join(dir, "backend")))
	check(m.startBackend())
	up()
	works("run", "-d", "--name", "here", image, "sh", "-c", "echo still here; exec tail -f /dev/null")

	commands := map[string]struct {
		args []string
		want string
	}{
		"pull":                    {[]string{"pull", image}, `(?m)^Status: `},
		"push":                    {[]string{"push", image}, `(?m)^latest: digest: `},
		"load":                    {[]string{"load", "-i", archive}, `(?m)^Loaded image: `},
		"run":                     {[]string{"run", "--rm", image, "echo", "hello"}, `(?m)^hello$`},
		"logs":                    {[]string{"logs", "here"}, `(?m)^still here$`},
		"logs of an earlier disk": {[]string{"logs", "old"}, `(?m)^from the archive$`},
		"exec":                    {[]string{"exec", "here", "echo", "inside"}, `(?m)^inside$`},
		"inspect":                 {[]string{"inspect", "-f", "{{.State.Status}}", "here"}, `(?m)^running$`},
	}
	try := func(without string) {
		t.Helper()
		var all sync.WaitGroup
		for command, c := range commands {
			all.Go(func() { // ends with its command
				out, err := docker(c.args...)
				want, fails := needs[without][command]
				switch {
				case !fails:
					want = c.want
				case err == nil:
					t.Errorf("without the right %q, %s works: %s", without, command, out)
					return
				}
				if !fails && err != nil || !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("without the right %q, %s says %q (%v), want %s", without, command, out, err, want)
				}
			})
		}
		all.Wait()
	}
	try("")
	diagnose(t, m, "")
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		if name == "tables" {
			continue
		}
		mod.take(name)
		try(name)
		diagnose(t, m, name)
		mod.give(name)
	}
	try("")

	check(m.backend.end(syscall.SIGTERM))
	mod.take("tables")
	diagnose(t, m, "tables")
	p, out, err := m.start("sockerless-backend-aca", []string{"-addr", "127.0.0.1:0"}, append(m.simEnv(), "SOCKERLESS_DATA_DIR="+filepath.Join(dir, "backend")))
	check(err)
	defer p.end(syscall.SIGKILL)
	go io.Copy(io.Discard, out) // ends with the program
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatal("a backend without the right on its table goes on")
	}
	want := regexp.MustCompile(`(?m)^sockerless-backend-aca: .*403 AuthorizationPermissionMismatch.*$`)
	if said := m.log("sockerless-backend-aca"); !want.MatchString(said) || p.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("a backend without the right on its table exits with %d and says: %s", p.cmd.ProcessState.ExitCode(), said)
	}
	mod.give("tables")
	check(m.startBackend())
	up()
	try("")

	works("rm", "-f", "here", "old")
	eventually(t, "the jobs are gone", func() bool {
		jobs, err := m.sim.jobs()
		check(err)
		return len(jobs) == 0
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// saveMinibox writes minibox as `docker save` would.
func saveMinibox(bin, file, tag string) error {
	image, err := minibox.Image(filepath.Join(bin, "minibox"))
	ref, refErr := name.NewTag(tag)
	if err = errors.Join(err, refErr); err != nil {
		return err
	}
	return tarball.WriteToFile(file, ref, image)
}
