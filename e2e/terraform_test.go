package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
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

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sockerless/sockerless/azuresim/minibox"
	shipped "github.com/sockerless/sockerless/backends/aca/programs"
)

// withTerraform is set by scripts/terraform-e2e, which makes what the test needs: a network and a /tmp of its own, the real
// provider, and terraform's configuration that finds it.
var withTerraform = flag.String("terraform", "", "type the walk-through in this `mode`, reverse, forward or deployed: see scripts/terraform-e2e")

const (
	readme    = "../backends/aca/examples/terraform/README.md"
	hubName   = "index.docker.io" // Docker Hub's
	variables = ` -var="location=westeurope" -var="project_name=myproject" -var="environment=staging"`
)

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
	hub     *http.Server
	home    string
	backend []string // the environment of near
}

// deployed is the number under which the commands of the backend in Azure are, which come instead of steps 3 and 4.
const deployed = 8

// readSteps reads the commands of the page: what is indented below the heading of each step.
func readSteps(t *testing.T) map[int][]string {
	t.Helper()
	page, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	steps := map[int][]string{}
	step, heading := 0, regexp.MustCompile(`^## (?:Step (\d+):)?`)
	more := false
	for line := range strings.Lines(string(page)) {
		if m := heading.FindStringSubmatch(line); m != nil {
			step, _ = strconv.Atoi(m[1]) // 0: of no step
			if strings.HasPrefix(line, "## Without a machine for the backend") {
				step = deployed
			}
		}
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		switch {
		case !ok:
			more = false
		case step == 0:
			t.Fatalf("the command %q belongs to no step", command)
		case more:
			last := &steps[step][len(steps[step])-1]
			*last += "\n" + command
			more = strings.HasSuffix(command, `\`)
		default:
			steps[step] = append(steps[step], command)
			more = strings.HasSuffix(command, `\`)
		}
	}
	if len(steps) < 7 {
		t.Fatalf("the page has %d steps", len(steps))
	}
	return steps
}

// azure [flags]: starts the simulator, a Docker Hub, and the shells.
func cmdStage(ts *testscript.TestScript, neg bool, args []string) {
	w := walkthroughOf(ts)
	ts.Check(w.startHub())
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

// answers are what a user types while a command of the page waits for it.
var answers = []struct {
	command *regexp.Regexp
	answers []answer
	fails   bool // it is ended by the user, which is no success
}{
	{regexp.MustCompile(`^terraform (apply|destroy)`), []answer{{regexp.MustCompile(`Enter a value:`), "yes\n"}}, false},
	{regexp.MustCompile(`^sockerless prune`), []answer{{regexp.MustCompile(`\[y/N\]`), "y\n"}}, false},
	{regexp.MustCompile(`^docker exec -it`), []answer{{nil, "echo terminal: $((40+2)); tty\n"}, {regexp.MustCompile(`terminal: 42`), "exit\n"}}, false},
	{regexp.MustCompile(`^docker logs -f`), []answer{{nil, "\x03"}}, true},
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
			ts.Check(w.leadImage())
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

// typed types a command and the answers that it asks for.
func typed(where *shell, command string) (string, error) {
	for _, a := range answers {
		if a.command.MatchString(command) {
			out, err := where.run(command, a.answers)
			if a.fails {
				err = nil
			}
			return out, err
		}
	}
	return where.run(command, nil)
}

// leadImage replaces the backend's image, as make images has left it on the laptop, by one that finds the simulator: of that the
// module tells its app nothing.
func (w *walkthrough) leadImage() error {
	where, err := w.laptop.run("pwd", nil)
	if err != nil {
		return err
	}
	dir := filepath.Join(strings.TrimSpace(where), "bin/images")
	images, err := shipped.ReadLayout(dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(images, func(n shipped.Named) bool { return n.Repository == shipped.BackendRepository })
	led, err := w.led(images[i].Image)
	if err != nil {
		return err
	}
	made, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	named := match.Name(shipped.BackendRepository)
	return made.ReplaceImage(led, named, layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: shipped.BackendRepository}))
}

// led is an image with the address of this cloud, and the authorities of it and of its Docker Hub.
func (w *walkthrough) led(image v1.Image) (v1.Image, error) {
	authorities, err := os.ReadFile(w.trust)
	if err != nil {
		return nil, err
	}
	const file = "authorities.pem"
	var b bytes.Buffer
	tape := tar.NewWriter(&b)
	err = tape.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(authorities))})
	if err == nil {
		_, err = tape.Write(authorities)
	}
	if err = errors.Join(err, tape.Close()); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Config.Env = append(config.Config.Env, "SOCKERLESS_ENDPOINT_URL=https://host.azuresim.internal",
		"SOCKERLESS_CA_FILE=/"+file, "SOCKERLESS_CALLBACK_CA_FILE=/"+file)
	return mutate.Config(image, config.Config)
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

// startHub serves Docker Hub's alpine, which is minibox, to whoever trusts w.trust.
func (w *walkthrough) startHub() error {
	cert, ca, err := selfSigned(hubName)
	if err != nil {
		return err
	}
	w.trust = filepath.Join(w.dir, "authorities.pem")
	if err := os.WriteFile(w.trust, ca, 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", hubName+":443") // of this network alone, and no loopback: replicas look the name up too
	if err != nil {
		return err
	}
	w.hub = &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ErrorLog: log.New(io.Discard, "", 0)}
	go w.hub.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})) // ends with close
	image, err := minibox.Image(filepath.Join(w.bin, "minibox"))
	if err != nil {
		return err
	}
	tag, err := name.NewTag(hubName + "/library/alpine:latest")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return remote.Write(tag, image, remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}))
}

func selfSigned(host string) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (w *walkthrough) close() {
	for _, s := range []*shell{w.near, w.laptop} {
		if s != nil {
			s.close()
		}
	}
	if w.hub != nil {
		w.hub.Close()
	}
	if w.sim != nil {
		w.sim.end(syscall.SIGTERM)
	}
}
