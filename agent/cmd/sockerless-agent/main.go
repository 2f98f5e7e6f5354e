// Sockerless-agent is the program that is started inside each container's replica and answers for the container.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/sockerless/sockerless/agent"
	"github.com/sockerless/sockerless/agent/protocol"
)

// version is set at build time.
var version = "devel"

// concealed is the first argument of the second execution, see agent.Conceal. The one beside it is the descriptor.
const concealed = "concealed"

const usage = `Usage: sockerless-agent               run as the agent of this container
       sockerless-agent install DIR   copy this program to DIR/agent, and make DIR/spool
       sockerless-agent reach         find out whether the backend can be reached, and end: 0 if so

The agent is configured by its environment:
  SOCKERLESS_RUN_ID         id of this run, 32 hexadecimal digits
  SOCKERLESS_RUN_SECRET     its secret, the base64url of 32 bytes
  SOCKERLESS_CALLBACK_URL   the backend to dial; or
  SOCKERLESS_AGENT_LISTEN   where the backend dials the agent: host:port or unix:/path
  SOCKERLESS_PROXY          URL of the proxy to the backend, or "direct" (default: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say)
  SOCKERLESS_CA             base64 of the PEM certificates that verify an https callback (default: the system's)
  SOCKERLESS_HOLD           how long it waits to be told to start (default 10m)
  SOCKERLESS_ORPHAN         how long it stays after an exit that nobody acknowledges (default 15m)
  SOCKERLESS_DIR            its own folder (default: that of the program)
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "sockerless-agent: %v\n", err)
		return code
	}
	if len(args) > 0 {
		switch args[0] {
		case agent.LimitedCommand:
			return agent.RunLimited(args[1:])
		case concealed:
			code, err := serve(args[1:], stderr)
			if err != nil {
				return fail(agent.ExitAgent, err)
			}
			return code
		}
	}
	flags := flag.NewFlagSet("sockerless-agent", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	showVersion := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return fail(2, err)
	case *showVersion:
		fmt.Fprintln(stdout, "sockerless-agent", version)
		return 0
	}
	switch args := flags.Args(); {
	case len(args) == 0:
		settings, err := agent.ReadSettings(os.Getenv)
		if err == nil {
			err = agent.Conceal(settings, concealed)
		}
		return fail(agent.ExitAgent, err)
	case args[0] == protocol.ReachCommand && len(args) == 1:
		settings, err := agent.ReadSettings(os.Getenv)
		if err != nil {
			return fail(protocol.ReachSettings, err)
		}
		code, err := agent.Reach(context.Background(), settings)
		if err != nil && code != protocol.Reached {
			return fail(code, err)
		}
		return code
	case args[0] != "install":
		return fail(2, fmt.Errorf("unknown command %q; see --help", args[0]))
	case len(args) != 2 || strings.HasPrefix(args[1], "-"):
		return fail(2, errors.New("install needs one folder; see --help"))
	default:
		if err := agent.Install(args[1]); err != nil {
			return fail(1, err)
		}
		return 0
	}
}

// serve is the second execution. It returns the exit code.
func serve(args []string, stderr io.Writer) (int, error) {
	if len(args) != 1 {
		return 0, errors.New("concealed needs one descriptor")
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil || fd < 3 {
		return 0, errors.New("concealed needs a descriptor")
	}
	settings, err := agent.Concealed(fd)
	if err != nil {
		return 0, err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	a, err := agent.New(settings, version, log)
	if err != nil {
		return 0, err
	}
	return a.Run(), nil
}
