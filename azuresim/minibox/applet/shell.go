package applet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
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
	var command, interactive, fromStdin bool
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
				fromStdin = true
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

	s := &shell{}
	r, err := interp.New(interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.ExecHandlers(runCommand), interp.CallHandler(s.call))
	if err != nil {
		c.fail("", err)
		return
	}
	s.Runner = r
	stdin := &byteReader{r: os.Stdin}
	var input io.Reader = stdin
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
	case len(args) > 0 && !fromStdin:
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
	// An assignment: variables cannot be set from outside without being exported.
	_ = r.Run(context.Background(), &syntax.CallExpr{Assigns: []*syntax.Assign{{
		Name: &syntax.Lit{Value: zero}, Value: &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: name}}},
	}}})
	switch {
	case interactive && input == stdin:
		c.status = s.interact(stdin)
	case input == stdin:
		c.status = s.script(syntax.NewParser().InteractiveSeq(input), name)
	default:
		c.status = s.script(single(syntax.NewParser().StmtsSeq(input)), name)
	}
}

// shell adds to mvdan's runner what it leaves out: $0, an exec that replaces the process, umask, kill as a program.
type shell struct {
	*interp.Runner
	replace bool // the statement that runs is an exec of the shell itself, not of a subshell
}

// zero is the variable that stands for $0: the runner knows $0 only for whole files, and would run the EXIT trap after each.
const zero = "_MINIBOX_0"

func (s *shell) run(stmt *syntax.Stmt) int {
	call, _ := stmt.Cmd.(*syntax.CallExpr)
	s.replace = call != nil && len(call.Args) > 1 && call.Args[0].Lit() == "exec" && !stmt.Background && !stmt.Negated
	syntax.Walk(stmt, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.ParamExp:
			if n.Param != nil && n.Param.Value == "0" {
				n.Param.Value = zero
			}
		case *syntax.CmdSubst, *syntax.ProcSubst:
			s.replace = false
		}
		return true
	})
	return exitStatus(s.Run(context.Background(), stmt))
}

// call sees every simple command before the runner looks for a builtin.
func (s *shell) call(ctx context.Context, args []string) ([]string, error) {
	hc := interp.HandlerCtx(ctx)
	switch {
	case args[0] == "kill":
		// The runner knows the name as a builtin that it does not have.
		if path, err := interp.LookPathDir(hc.Dir, hc.Env, "kill"); err == nil {
			args[0] = path
		}
	case args[0] == "umask":
		return umask(hc, args[1:]), nil
	case args[0] == "exec" && len(args) > 1 && s.replace:
		path, err := interp.LookPathDir(hc.Dir, hc.Env, args[1])
		if err != nil {
			return args, nil // the runner tells it
		}
		for fd, stream := range []any{hc.Stdin, hc.Stdout, hc.Stderr} {
			file, ok := stream.(*os.File)
			if !ok {
				return args, nil
			}
			if int(file.Fd()) != fd {
				if err := unix.Dup3(int(file.Fd()), fd, 0); err != nil {
					return nil, err
				}
			}
		}
		if err := os.Chdir(hc.Dir); err != nil {
			return nil, err
		}
		return nil, unix.Exec(path, args[1:], environment(hc))
	}
	return args, nil
}

func umask(hc interp.HandlerContext, args []string) []string {
	if len(args) == 0 {
		old := unix.Umask(0)
		unix.Umask(old)
		fmt.Fprintf(hc.Stdout, "%04o\n", old)
		return []string{"true"}
	}
	mask, err := strconv.ParseUint(args[0], 8, 32)
	if err != nil || mask > 0o777 || len(args) > 1 {
		fmt.Fprintf(hc.Stderr, "umask: invalid mask '%s'\n", strings.Join(args, " "))
		return []string{"false"}
	}
	unix.Umask(int(mask))
	return []string{"true"}
}

// single makes a row of statements one of lists of them.
func single(stmts iter.Seq2[*syntax.Stmt, error]) iter.Seq2[[]*syntax.Stmt, error] {
	return func(yield func([]*syntax.Stmt, error) bool) {
		for stmt, err := range stmts {
			if !yield([]*syntax.Stmt{stmt}, err) {
				return
			}
		}
	}
}

// script runs what has been read before it reads on, so that what stands before a syntax error runs, as in other shells;
// commands on stdin come by whole lines, because the rest of a line is not input of its first command.
func (s *shell) script(input iter.Seq2[[]*syntax.Stmt, error], name string) int {
	status := 0
	for stmts, err := range input {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return 2
		}
		for _, stmt := range stmts {
			status = s.run(stmt)
			if s.Exited() {
				return status
			}
		}
	}
	// The end of a file runs the EXIT trap.
	if err := s.Run(context.Background(), &syntax.File{Name: name}); s.Exited() {
		return exitStatus(err)
	}
	return status
}

// interact reads lines from a terminal in its line mode.
func (s *shell) interact(input *byteReader) int {
	// Ctrl-C ends what runs in the foreground and not the shell.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT)
	lastStatus, prompt := 0, "$ "
	if os.Geteuid() == 0 {
		prompt = "# "
	}
	for {
		// A parser does not go on after a syntax error; the shell does, with the next line.
		parser := syntax.NewParser()
		fmt.Fprint(os.Stderr, prompt)
		failed := false
		for stmts, err := range parser.InteractiveSeq(input) {
			if err != nil {
				fmt.Fprintf(os.Stderr, "sh: %v\n", err)
				failed = true
				input.skipLine()
				break
			}
			if parser.Incomplete() {
				fmt.Fprint(os.Stderr, "> ")
				continue
			}
			for _, stmt := range stmts {
				if lastStatus = s.run(stmt); s.Exited() {
					return lastStatus
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
			return interp.ExitStatus(127)
		}
		cmd := exec.Cmd{Path: path, Args: args, Dir: hc.Dir, Env: environment(hc), Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr}
		if err := cmd.Start(); err != nil {
			fmt.Fprintf(hc.Stderr, "sh: %s: %v\n", args[0], reason(err))
			return interp.ExitStatus(126)
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
			return interp.ExitStatus(uint8(128 + ws.Signal()))
		}
		return interp.ExitStatus(uint8(exit.ExitCode()))
	}
}

func environment(hc interp.HandlerContext) []string {
	var list []string
	for name, v := range hc.Env.Each {
		if v.Exported && v.IsSet() && name != zero {
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
type byteReader struct {
	r    io.Reader
	last byte
}

func (b *byteReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.r.Read(p[:1])
	if n > 0 {
		b.last = p[0]
	}
	return n, err
}

// skipLine drops the rest of a line with a mistake in it.
func (b *byteReader) skipLine() {
	for p := make([]byte, 1); b.last != '\n'; {
		if _, err := b.Read(p); err != nil {
			return
		}
	}
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
