//go:build linux

// Package conformance is a table of what users do with containers through the docker CLI, and of what Docker answers. It
// runs against any DOCKER_HOST: ours on the simulator in `make test`, a local dockerd beside it in `make conformance`.
// docs/conformance.md is made from it.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless/conformance/host"
)

// Case is one question to a Docker host, and the answer.
type Case struct {
	Group, Name string

	// Script is what a user does: bash runs it in an empty folder, with these variables.
	//
	//	$BOX    a container that sleeps, which cases share and leave as it is
	//	$N      a name for a container of the case's own; it is removed afterwards, and so is what begins with it
	//	$IMAGE  see host.Import
	//
	// `await COMMAND...` repeats a command until it succeeds, `logged CONTAINER TEXT` waits for a text in its logs.
	Script string
	Stdin  string
	Type   []Keys // if not nil, Script runs on a terminal of 80 columns and 24 rows where this is typed

	// Ask asks the API itself, where the CLI has no words for it. What it returns is the case's standard output.
	Ask func(ctx context.Context, a *Asker) (string, error)

	Want Answer  // Docker's
	Ours *Answer // if it differs
	Why  string  // it does
}

// Keys are typed when the terminal has shown a text.
type Keys struct {
	After, Send string
	Rows, Cols  uint16 // if not 0, the terminal's new size, set before Send
}

// Answer is what the client showed in the end, with what is another each time (names, ids, times) replaced by words. A
// terminal has one stream: Out.
type Answer struct {
	Out, Err string
	Code     int
}

// Asker is what a case that asks the API has.
type Asker struct {
	*client.Client
	Host            *host.Host
	Image, Box, Own string // Own is $N
}

// caseTime bounds one case. It is for what hangs: nothing in the table takes a tenth of it on a quiet machine.
const caseTime = 2 * time.Minute

const prelude = `set -o pipefail
await() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep .1; done; echo "never: $*" >&2; return 1; }
logged() { await eval "docker logs $1 2>&1 | grep -q '$2'"; }
`

// Session asks the cases of one host.
type Session struct {
	host  *host.Host
	image string
	box   string

	mu   sync.Mutex
	last int
}

// imageName is that of the image under test.
const imageName = "sockerless-conformance:1"

// Open prepares a host: the image and the container that cases share. The caller closes the session.
func Open(ctx context.Context, h *host.Host) (*Session, error) {
	if err := h.Import(ctx, imageName); err != nil {
		return nil, err
	}
	s := &Session{host: h, image: imageName, box: fmt.Sprintf("conformance-%d-box", os.Getpid())}
	if _, err := h.Docker(ctx, "run", "-d", "--name", s.box, s.image, "sleep", "100000"); err != nil {
		return nil, err
	}
	return s, nil
}

// Close removes what Open made, but for the image.
func (s *Session) Close(ctx context.Context) error {
	_, err := s.host.Docker(ctx, "rm", "-f", s.box)
	return err
}

// Run asks one case and returns the answer. It may be called from several goroutines.
func (s *Session) Run(ctx context.Context, c Case) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return Answer{}, err
	}
	defer os.RemoveAll(dir)
	s.mu.Lock()
	s.last++
	own := fmt.Sprintf("conformance-%d-%d-", os.Getpid(), s.last)
	s.mu.Unlock()
	defer s.remove(own)

	var a Answer
	switch {
	case c.Ask != nil:
		a.Out, err = s.ask(ctx, c, own)
	case c.Type != nil:
		a, err = s.onTerminal(s.script(ctx, dir, own, c), c.Type)
	default:
		a, err = s.plain(s.script(ctx, dir, own, c), c.Stdin)
	}
	if ctx.Err() != nil {
		return a, fmt.Errorf("it hangs; so far: %q %q", a.Out, a.Err)
	}
	a.Out, a.Err = s.same(a.Out, own, dir), s.same(a.Err, own, dir)
	return a, err
}

// ask returns when ctx ends, too, which a connection that was taken over does not heed.
func (s *Session) ask(ctx context.Context, c Case, own string) (string, error) {
	type said struct {
		out string
		err error
	}
	ended := make(chan said, 1)
	go func() { // ends with the host at the latest
		out, err := c.Ask(ctx, &Asker{Client: s.host.Client, Host: s.host, Image: s.image, Box: s.box, Own: own})
		ended <- said{out, err}
	}()
	select {
	case a := <-ended:
		return a.out, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *Session) script(ctx context.Context, dir, own string, c Case) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", prelude+c.Script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TERM=xterm", "FROM_CLIENT=client's",
		"DOCKER_HOST=" + s.host.Addr, "DOCKER_CONFIG=" + dir + "/.docker", "IMAGE=" + s.image, "BOX=" + s.box, "N=" + own,
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (s *Session) plain(cmd *exec.Cmd, stdin string) (Answer, error) {
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	code, err := exitCode(cmd.Run())
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // what the script left, mostly nothing
	}
	return Answer{Out: out.String(), Err: errs.String(), Code: code}, err
}

func (s *Session) onTerminal(cmd *exec.Cmd, keys []Keys) (Answer, error) {
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // it leads a session of its own
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		return Answer{}, err
	}
	defer f.Close()
	var out bytes.Buffer
	seen := 0 // of out, before the last key
	for buf := make([]byte, 32<<10); ; {
		for len(keys) > 0 {
			i := strings.Index(out.String()[seen:], keys[0].After)
			if i < 0 {
				break
			}
			seen += i + len(keys[0].After)
			if keys[0].Rows != 0 {
				if err := pty.Setsize(f, &pty.Winsize{Rows: keys[0].Rows, Cols: keys[0].Cols}); err != nil {
					return Answer{}, err
				}
			}
			if _, err := io.WriteString(f, keys[0].Send); err != nil {
				return Answer{}, err
			}
			keys = keys[1:]
		}
		n, err := f.Read(buf)
		out.Write(buf[:n])
		if err != nil { // EIO: nobody has the terminal open any more
			break
		}
	}
	code, err := exitCode(cmd.Wait())
	if len(keys) > 0 && err == nil {
		err = fmt.Errorf("never shown: %q", keys[0].After)
	}
	return Answer{Out: out.String(), Code: code}, err
}

func exitCode(err error) (int, error) {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

var (
	// A sum, which has the same form and is the same each time, is what sha256sum has written: "SUM  -".
	longID  = regexp.MustCompile(`\b[0-9a-f]{64}\b(  -)?`)
	shortID = regexp.MustCompile(`\b[0-9a-f]{12}\b`)
	instant = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	// dockerd's errors show where it keeps a container's files.
	rootfs = regexp.MustCompile(`/\S*/overlay2/\w+/merged`)
	// tarNoise is what the CLI may log when it gives a copy up that it has begun.
	tarNoise = regexp.MustCompile(`(?m)^time="TIME" level=error msg="Can't (add file|close tar).*\n`)
)

// same replaces what is another each time.
func (s *Session) same(text, own, dir string) string {
	text = strings.NewReplacer(own, "N", s.box, "BOX", dir, "DIR", s.host.Addr, "HOST").Replace(text)
	text = longID.ReplaceAllStringFunc(text, func(id string) string {
		if strings.HasSuffix(id, "  -") {
			return id
		}
		return "ID"
	})
	text = shortID.ReplaceAllString(text, "ID")
	text = rootfs.ReplaceAllString(text, "ROOT")
	text = instant.ReplaceAllString(text, "TIME")
	return tarNoise.ReplaceAllString(text, "")
}

// remove removes the containers of a case. They may have gone by themselves.
func (s *Session) remove(own string) {
	ctx, cancel := context.WithTimeout(context.Background(), caseTime)
	defer cancel()
	list, err := s.host.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("name", own)})
	if err != nil {
		return
	}
	for _, c := range list.Items {
		s.host.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true}) //nolint:errcheck // see above
	}
}

// Cases is the table.
func Cases() []Case {
	return slices.Concat(runCases, execCases, attachCases, logsCases, cpCases, insideCases)
}

// Docker is what Docker answers.
func (c Case) Docker() Answer { return c.Want }

// Sockerless is what we answer.
func (c Case) Sockerless() Answer {
	if c.Ours != nil {
		return *c.Ours
	}
	return c.Want
}
