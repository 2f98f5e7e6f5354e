package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// withTerraform is set by scripts/terraform-e2e, which makes what the test needs: a network and a /tmp of its own, the real
// provider, and terraform's configuration that finds it.
var withTerraform = flag.String("terraform", "", "type the walk-through in this `mode`, reverse, forward or deployed: see scripts/terraform-e2e")

const variables = ` -var="location=westeurope" -var="project_name=myproject" -var="environment=staging"`

// TestTerraform types the walk-through, command by command as its page has it, with terraform and the real azurerm provider
// against the simulator, and looks at what is there between the steps.
func TestTerraform(t *testing.T) {
	if *withTerraform == "" {
		t.Skip("needs the real azurerm provider, which takes a quarter of an hour to build: make terraform-e2e runs it")
	}
	w := &walkthrough{machine: machine{bin: programs(t), mode: *withTerraform, report: func(err error) { t.Error(err) }}}
	w.steps = readSteps(t)
	script := "walkthrough"
	if w.mode == "deployed" {
		script = w.mode
	}
	t.Cleanup(func() {
		w.close()
		if t.Failed() {
			t.Log(w.logs())
		}
		w.remove()
	})
	t.Run(w.mode, func(t *testing.T) { // which waits for the script
		testscript.Run(t, testscript.Params{
			Files: []string{"testdata/terraform/" + script + ".txtar"},
			Setup: func(env *testscript.Env) error {
				env.Values[walkthroughKey{}] = w
				return w.setup(env)
			},
			Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
				"azure": cmdStage, "step": cmdStep, "laptop": cmdLaptop, "rights": cmdRights, "sim": cmdSim, "token": cmdToken,
				"again": cmdAgain,
			},
			Condition:           func(cond string) (bool, error) { return cond == w.mode, nil },
			RequireExplicitExec: true,
		})
	})
	other := map[string][]int{"reverse": {deployed}, "forward": {3, deployed}, "deployed": {3, 4}}[w.mode] // steps of other modes
	for step, commands := range w.steps {
		if len(commands) > 0 && !slices.Contains(other, step) {
			t.Errorf("step %d was not taken", step)
		}
	}
}

type walkthroughKey struct{}

func walkthroughOf(ts *testscript.TestScript) *walkthrough {
	return ts.Value(walkthroughKey{}).(*walkthrough)
}

// walkthrough is who follows the page: a machine with a simulated Azure, and two shells.
type walkthrough struct {
	machine
	steps   map[int][]string // commands that are yet to be typed
	laptop  *shell
	near    *shell // on the machine that runs the backend
	hub     *hub
	home    string
	backend []string // the environment of near
}

// azure [flags]: starts the simulator, a Docker Hub, and the shells.
func cmdStage(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	var err error
	w.hub, err = startHub(filepath.Join(w.bin, "minibox"))
	ts.Check(err)
	w.trust = filepath.Join(w.dir, "authorities.pem")
	ts.Check(os.WriteFile(w.trust, w.hub.authority, 0o600))
	ts.Check(w.startSimulator(args))
	secure, err := w.sim.secureURL()
	ts.Check(err)
	host := strings.Replace(strings.TrimPrefix(secure, "https://"), "127.0.0.1", "localhost", 1)
	w.home = filepath.Join(w.dir, "home")
	ts.Check(os.MkdirAll(w.home, 0o700))
	source := ts.Getenv("SOURCE")
	git := exec.Command("git", "config", "--file", filepath.Join(w.home, ".gitconfig"), "url."+source+".insteadOf", "https://github.com/sockerless/sockerless")
	ts.Check(git.Run())
	trust := exec.Command("git", "config", "--file", filepath.Join(w.home, ".gitconfig"), "--add", "safe.directory", "*")
	ts.Check(trust.Run())

	owner, err := w.sim.newOwner("/subscriptions/" + w.sim.env["SOCKERLESS_ACA_SUBSCRIPTION_ID"])
	ts.Check(err)
	common := []string{
		"PATH=" + filepath.Join(w.dir, "programs") + ":" + os.Getenv("PATH"), "HOME=" + w.home, "SSL_CERT_FILE=" + w.trust,
		"ARM_METADATA_HOSTNAME=" + host, "ARM_TENANT_ID=" + w.sim.env["AZURE_TENANT_ID"],
		"ARM_CLIENT_ID=" + owner.ClientID, "ARM_CLIENT_SECRET=" + owner.Secret, "ARM_USE_CLI=false",
		"TF_CLI_CONFIG_FILE=" + os.Getenv("TF_CLI_CONFIG_FILE"), "CHECKPOINT_DISABLE=1", "DOCKER_CONFIG=" + filepath.Join(w.dir, "docker"),
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS"} {
		common = append(common, name+"="+ts.Getenv(name))
	}
	// The simulator's own authority, beside Docker Hub's.
	pem, err := os.ReadFile(w.sim.env["SOCKERLESS_CA_FILE"])
	ts.Check(err)
	ts.Check(appendTo(w.trust, pem))
	build := exec.Command("go", "build", "-o", filepath.Join(w.dir, "programs", "az"), "./e2e/az")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		ts.Fatalf("cannot build az: %v: %s", err, out)
	}
	w.backend = slices.Concat(common, []string{"SOCKERLESS_ENDPOINT_URL=" + w.sim.url, "SOCKERLESS_CA_FILE=" + w.trust})
	if w.mode == "forward" {
		w.backend = append(w.backend, resolver+"="+w.sim.env[resolver])
	}
	if w.mode == "deployed" { // sockerless asks which cloud it is, and the simulator stands for public DNS
		common = slices.Concat(w.backend, []string{"HTTPS_PROXY=" + w.sim.url})
	}
	w.laptop, err = openShell(w.home, common)
	ts.Check(err)
}

func appendTo(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// step N: types the commands of a step. What they say is printed.
func cmdStep(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	step, err := strconv.Atoi(args[0])
	ts.Check(err)
	commands := w.steps[step]
	if len(commands) == 0 {
		ts.Fatalf("step %d has no commands, or was taken already", step)
	}
	w.steps[step] = nil
	for _, command := range commands {
		ts.Logf("$ %s", command)
		began := time.Now()
		where := w.laptop
		switch {
		case w.mode == "deployed": // there is no other machine
			if strings.HasPrefix(command, "sockerless prune") {
				w.take(ts, where, "terraform apply"+variables) // stops the backend
			}
		case strings.HasPrefix(command, `eval "$(terraform output -raw backend_env)"`):
			ts.Check(w.moveNear(ts))
			where = w.near
		case strings.HasPrefix(command, "sockerless prune"):
			ts.Check(w.stopBackend())
			where = w.near
		case strings.HasPrefix(command, "sockerless"):
			where = w.near
		}
		switch {
		case strings.HasPrefix(command, "sockerless-backend-aca"):
			ts.Check(where.enter(command + "\n"))
			ts.Check(w.awaitPort("127.0.0.1:9100", where))
		case strings.HasPrefix(command, "bin/sockerless push-images"):
			w.take(ts, where, command)
			ts.Check(w.leadBackend())
			w.take(ts, where, command)
		case strings.HasSuffix(command, "&"):
			w.take(ts, where, command)
			ts.Check(w.awaitPort("/tmp/sockerless.sock", where))
		default:
			w.take(ts, where, command)
		}
		ts.Logf("(%v)", time.Since(began).Round(time.Second/10))
	}
}

// take types a command of the page, which has to succeed, and prints what it says.
func (w *walkthrough) take(ts *testscript.TestScript, where *shell, command string) {
	out, err := typed(where, command)
	fmt.Fprint(ts.Stdout(), out)
	if err != nil {
		near := ""
		if w.near != nil {
			near = "\nthe backend says: " + w.near.heard()
		}
		ts.Fatalf("%s: %v\n%s%s", command, err, out, near)
	}
}

// leadBackend leads the image that make images has left on the laptop.
func (w *walkthrough) leadBackend() error {
	where, err := w.laptop.run("pwd", nil)
	if err != nil {
		return err
	}
	authorities, err := os.ReadFile(w.trust)
	if err != nil {
		return err
	}
	return leadImage(filepath.Join(strings.TrimSpace(where), "bin/images"), authorities)
}

// moveNear opens the shell on the machine that runs the backend. In the virtual network it has the backend's identity, which
// the page says to put on it; else it is the laptop, whose user az knows.
func (w *walkthrough) moveNear(ts *testscript.TestScript) error {
	where, err := w.laptop.run("pwd", nil)
	if err != nil {
		return err
	}
	path, err := w.laptop.run("echo $PATH", nil)
	if err != nil {
		return err
	}
	env := slices.Clone(w.backend)
	env = append(env, "PATH="+strings.TrimSpace(path))
	if w.mode == "reverse" {
		id, err := w.laptop.run("terraform output -raw backend_identity_id", nil)
		if err != nil {
			return err
		}
		var machine map[string]string
		if err := w.sim.do(http.MethodPost, "/_sim/machines", fmt.Sprintf(`{"identity":%q}`, strings.TrimSpace(id)), &machine); err != nil {
			return err
		}
		for name, value := range machine {
			env = append(env, name+"="+value)
		}
	}
	w.near, err = openShell(strings.TrimSpace(where), env)
	return err
}

func (w *walkthrough) awaitPort(addr string, s *shell) error {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c, err := net.Dial(network, addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nobody answers at %s: %w: %s", addr, err, s.heard())
		}
	}
}

// [!] laptop COMMAND: types a command that is not the page's.
func cmdLaptop(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	command := strings.Join(args, " ")
	began := time.Now()
	out, err := typed(w.laptop, strings.ReplaceAll(command, " VARIABLES", variables))
	fmt.Fprint(ts.Stdout(), out)
	ts.Logf("$ %s (%v)", command, time.Since(began).Round(time.Second/10))
	if (err != nil) != neg {
		ts.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// token: brings the backend's token to the laptop, as the page says.
func cmdToken(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	where, err := w.laptop.run("pwd", nil)
	ts.Check(err)
	raw, err := os.ReadFile(filepath.Join(w.home, ".local/state/sockerless/token"))
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(strings.TrimSpace(where), "sockerless.token"), raw, 0o600))
}

// again: the machine gets the identity that there is now, and its backend is started with the settings that there are now.
func cmdAgain(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	ts.Check(w.stopBackend())
	w.near.close()
	ts.Check(w.moveNear(ts))
	_, err := w.near.run(`eval "$(terraform output -raw backend_env)"`, nil)
	ts.Check(err)
	ts.Check(w.near.enter("sockerless-backend-aca -addr :9100\n"))
	ts.Check(w.awaitPort("127.0.0.1:9100", w.near))
}

// stopBackend ends it as a user does.
func (w *walkthrough) stopBackend() error {
	if err := w.near.enter("\x03"); err != nil {
		return err
	}
	if said, err := w.near.await(nil); err != nil {
		return fmt.Errorf("the backend ends with %w: %s", err, said)
	}
	return nil
}

// rights: the role assignments in the group are those of the module's own tests, but for a table's.
func cmdRights(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	var resources struct {
		Resources []struct {
			Type, Name string
			Instances  []struct {
				IndexKey   any `json:"index_key"`
				Attributes struct {
					Scope       string
					Role        string `json:"role_definition_name"`
					PrincipalID string `json:"principal_id"`
				}
			}
		}
	}
	where, err := w.laptop.run("pwd", nil)
	ts.Check(err)
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(where), "terraform.tfstate"))
	ts.Check(err)
	ts.Check(json.Unmarshal(raw, &resources))
	got := map[string]string{}
	for _, r := range resources.Resources {
		for _, i := range r.Instances {
			if r.Type != "azurerm_role_assignment" || r.Name == "principal" {
				continue
			}
			key, _ := i.IndexKey.(string)
			if key == "" {
				key = r.Name
			}
			got[key] = i.Attributes.Role + " on " + i.Attributes.Scope
		}
	}
	rights, err := moduleRights()
	ts.Check(err)
	delete(rights, "tables")
	own := "/subscriptions/" + w.sim.env["SOCKERLESS_ACA_SUBSCRIPTION_ID"]
	suffix := regexp.MustCompile(`(acrmyprojectstaging)[0-9a-f]{5}$`)
	for key, r := range rights {
		want := r.Role + " on " + strings.Replace(r.Scope, subscription, own, 1)
		if suffix.ReplaceAllString(got[key], "$1") != suffix.ReplaceAllString(want, "$1") {
			ts.Fatalf("the right %s is %q, want %q", key, got[key], want)
		}
	}
	if len(got) != len(rights) {
		ts.Fatalf("there are %d rights, want %d: %v", len(got), len(rights), got)
	}
}

func (w *walkthrough) close() {
	for _, s := range []*shell{w.near, w.laptop} {
		if s != nil {
			s.close()
		}
	}
	if w.hub != nil {
		w.hub.close()
	}
	if w.sim != nil {
		w.sim.end(syscall.SIGTERM)
	}
}
