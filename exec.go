package sockerless

import "context"

// Exec is a process started, or to be started, in a running container beside its own.
type Exec struct {
	ID        string // 64 hexadecimal digits
	Container string // the container's id
	Config    ExecConfig
	Running   bool
	Pid       int
	ExitCode  *int // nil before the exit
}

// ExecConfig is what to run.
type ExecConfig struct {
	Cmd                   []string
	Env                   []string // added to the container's
	User                  string   // empty: the container's
	Dir                   string   // empty: the container's
	Tty                   bool
	Stdin, Stdout, Stderr bool // the streams to attach
	Privileged            bool
	DetachKeys            string
	Size                  *TerminalSize
}

// ExecService is what can be asked of execs.
type ExecService interface {
	// Create records an exec and returns its id. ECONFLICT if the container does not run.
	Create(ctx context.Context, ref string, config ExecConfig) (id string, err error)

	// Start runs the exec, once. With detach it returns a nil Session as soon as the process runs. A command that
	// cannot be run is told in the session's output, in Docker's words, and by exit code 126 or 127.
	// ctx bounds the opening only.
	Start(ctx context.Context, id string, opt ExecStartOptions) (Session, error)

	// Find returns one exec. An exec is kept as long as its container runs, and for some minutes after its exit.
	Find(ctx context.Context, id string) (*Exec, error)

	// Resize sets the size of the exec's terminal.
	Resize(ctx context.Context, id string, size TerminalSize) error
}

// ExecStartOptions is how to start.
type ExecStartOptions struct {
	Detach bool
	Tty    bool
	Size   *TerminalSize
}
