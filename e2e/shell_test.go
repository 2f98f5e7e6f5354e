package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// shell is a bash in a terminal, into which commands are typed one after the other, as a user does.
type shell struct {
	cmd      *exec.Cmd
	terminal *os.File
	done     chan struct{} // closed when there is nothing more to read

	mu   sync.Mutex
	said bytes.Buffer // since the last command was typed
	at   time.Time    // of the latest output
}

// prompt is what the shell prints when a command has ended, with its exit code.
var prompt = regexp.MustCompile(`<<ended (\d+)>>\r?\n`)

// colours are what a terminal is told between the words.
var colours = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`)

// openShell starts a shell in dir.
func openShell(dir string, env []string) (*shell, error) {
	s := &shell{done: make(chan struct{}), at: time.Now()}
	s.cmd = exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	s.cmd.Dir = dir
	s.cmd.Env = slices.Concat(env, []string{`PROMPT_COMMAND=printf '<<ended %d>>\n' $?`, "PS1=", "PS2=", "TERM=dumb"})
	var err error
	if s.terminal, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 50, Cols: 250}); err != nil {
		return nil, err
	}
	go s.read() // ends with the shell
	if _, err := s.await(nil); err != nil {
		return nil, err
	}
	_, err = s.run("stty -echo", nil)
	return s, err
}

func (s *shell) read() {
	defer close(s.done)
	b := make([]byte, 32<<10)
	for {
		n, err := s.terminal.Read(b)
		s.mu.Lock()
		s.said.Write(b[:n])
		if n > 0 {
			s.at = time.Now()
		}
		s.mu.Unlock()
		if err != nil { // a terminal that nobody has open is an error
			return
		}
	}
}

// answer is typed when a command waits.
type answer struct {
	after *regexp.Regexp // once this was said; nil: once nothing was said for some seconds
	text  string
}

// commandTime is the longest that a command may take: a destroy of everything.
const commandTime = 8 * time.Minute

// quiet is how long a command that waits for nothing in particular says nothing.
const quiet = 3 * time.Second

// run types a command, and the answers while it runs. It returns what was said, and an error if its exit code is not 0.
func (s *shell) run(command string, answers []answer) (string, error) {
	if err := s.enter(command + "\n"); err != nil {
		return "", err
	}
	return s.await(answers)
}

// enter types something, and forgets what was said before.
func (s *shell) enter(text string) error {
	s.mu.Lock()
	s.said.Reset()
	s.at = time.Now()
	s.mu.Unlock()
	_, err := s.terminal.WriteString(text)
	return err
}

func (s *shell) await(answers []answer) (string, error) {
	for deadline := time.Now().Add(commandTime); ; time.Sleep(50 * time.Millisecond) {
		s.mu.Lock()
		said, at := s.said.String(), s.at
		s.mu.Unlock()
		if m := prompt.FindStringSubmatchIndex(said); m != nil {
			out := colours.ReplaceAllString(strings.ReplaceAll(said[:m[0]], "\r\n", "\n"), "")
			if code, _ := strconv.Atoi(said[m[2]:m[3]]); code != 0 {
				return out, fmt.Errorf("exit code %d", code)
			}
			return out, nil
		}
		if len(answers) > 0 && (answers[0].after != nil && answers[0].after.MatchString(said) || answers[0].after == nil && time.Since(at) > quiet) {
			if _, err := s.terminal.WriteString(answers[0].text); err != nil {
				return said, err
			}
			answers = answers[1:]
		}
		select {
		case <-s.done:
			return said, fmt.Errorf("the shell has ended")
		default:
		}
		if time.Now().After(deadline) {
			return said, fmt.Errorf("not within %v", commandTime)
		}
	}
}

// heard is what was said since the last command was typed.
func (s *shell) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// close hangs up: what the shell has started ends.
func (s *shell) close() {
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGHUP)
	s.terminal.Close()
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
}
