package applet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// sh is mvdan's shell: sh [-ceiux] [-o option] [script | -c commands [name]] [argument...].
func sh(c *call) {
	var set []string // options for `set`
	var command, interactive, stdin bool
	args := c.args
options:
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		for i, letter := range a[1:] {
			switch {
			case letter == 'c' && a[0] == '-':
				command = true
			case letter == 'i' && a[0] == '-':
				interactive = true
			case letter == 's' && a[0] == '-':
				stdin = true
			case letter == 'l' && a[0] == '-':
				// a login shell would read /etc/profile, and the image has none
			case strings.ContainsRune("aefnux", letter):
				set = append(set, a[:1]+string(letter))
			case letter == 'o' && i == len(a)-2:
				if len(args) == 0 {
					c.usagef("-o requires an argument")
					return
				}
				set = append(set, a[:1]+"o", args[0])
				args = args[1:]
				continue options
			default:
				c.usagef("unrecognized option '%c%c'", a[0], letter)
				return
			}
		}
	}

	r, err := interp.New(interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.ExecHandlers(runCommand))
	if err != nil {
		c.fail("", err)
		return
	}
	var input io.Reader = byteReader{os.Stdin}
	name := c.name
	switch {
	case command:
		if len(args) == 0 {
			c.usagef("-c requires an argument")
			return
		}
		input = strings.NewReader(args[0])
		if args = args[1:]; len(args) > 0 {
			name, args = args[0], args[1:]
		}
	case len(args) > 0 && !stdin:
		f, err := os.Open(args[0])
		if err != nil {
			c.fail(args[0], err)
			c.status = 127
			return
		}
		defer f.Close()
		input, name, args = bufio.NewReader(f), args[0], args[1:]
	default:
		interactive = interactive || term.IsTerminal(0) && term.IsTerminal(2)
	}
	if err := interp.Params(append(append(set, "--"), args...)...)(r); err != nil {
		c.usagef("%v", err)
		return
	}
	if command {
		interactive = false
	}
	if interactive {
		c.status = interact(r, input)
	} else {
		c.status = script(r, input, name)
	}
}

// script runs statement by statement, so that what stands before a syntax error runs, as in other shells.
func script(r *interp.Runner, input io.Reader, name string) int {
	status := 0
	for stmt, err := range syntax.NewParser(syntax.Variant(syntax.LangBash)).StmtsSeq(input) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return 2
		}
		status = exitStatus(r.Run(context.Background(), stmt))
		if r.Exited() {
			return status
		}
	}
	// An empty file runs the EXIT trap at its end.
	if err := r.Run(context.Background(), &syntax.File{Name: name}); r.Exited() {
		return exitStatus(err)
	}
	return status
}

// interact reads lines from a terminal in its line mode.
func interact(r *interp.Runner, input io.Reader) int {
	// Ctrl-C ends what runs in the foreground and not the shell.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT)
	lastStatus, prompt := 0, "$ "
	if os.Geteuid() == 0 {
		prompt = "# "
	}
	for {
		// A parser does not go on after a syntax error; the shell does, with the next line.
		parser := syntax.NewParser(syntax.Variant(syntax.LangBash))
		fmt.Fprint(os.Stderr, prompt)
		failed := false
		for stmts, err := range parser.InteractiveSeq(input) {
			if err != nil {
				fmt.Fprintf(os.Stderr, "sh: %v\n", err)
				failed = true
				break
			}
			if parser.Incomplete() {
				fmt.Fprint(os.Stderr, "> ")
				continue
			}
			for _, stmt := range stmts {
				status := exitStatus(r.Run(context.Background(), stmt))
				lastStatus = status
				if r.Exited() {
					return status
				}
			}
			fmt.Fprint(os.Stderr, prompt)
		}
		if !failed {
			fmt.Fprintln(os.Stderr)
			return lastStatus
		}
		lastStatus = 2
	}
}

// runCommand starts external programs: with default signals, the shell's own status words, and no context to kill them.
func runCommand(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
		if err != nil {
			fmt.Fprintf(hc.Stderr, "sh: %s: not found\n", args[0])
			return interp.NewExitStatus(127)
		}
		cmd := exec.Cmd{Path: path, Args: args, Dir: hc.Dir, Env: environment(hc), Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr}
		if err := cmd.Start(); err != nil {
			fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", args[0], reason(err))
			return interp.NewExitStatus(126)
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &exit):
			return err
		}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return interp.NewExitStatus(uint8(128 + ws.Signal()))
		}
		return interp.NewExitStatus(uint8(exit.ExitCode()))
	}
}

func environment(hc interp.HandlerContext) []string {
	var list []string
	for name, v := range hc.Env.Each {
		if v.Exported && v.IsSet() {
			list = append(list, name+"="+v.String())
		}
	}
	return list
}

func exitStatus(err error) int {
	var status interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintf(os.Stderr, "sh: %v\n", err)
	return 1
}

// byteReader reads one byte at a time: what follows a command in a pipe belongs to the programs that it starts.
type byteReader struct{ r io.Reader }

func (b byteReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return b.r.Read(p[:1])
}

// testCmd and printfCmd give the shell's builtins a program.
func testCmd(c *call)   { builtin(c) }
func printfCmd(c *call) { builtin(c) }

func builtin(c *call) {
	words := make([]*syntax.Word, 0, len(c.args)+1)
	for _, a := range append([]string{c.name}, c.args...) {
		words = append(words, &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: a}}})
	}
	r, err := interp.New(interp.StdIO(os.Stdin, c.out, os.Stderr))
	if err != nil {
		c.fail("", err)
		return
	}
	c.status = exitStatus(r.Run(context.Background(), &syntax.CallExpr{Args: words}))
}
