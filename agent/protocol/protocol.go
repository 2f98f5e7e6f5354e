// Package protocol is what a backend may ask of an agent: the route table, the bodies, and a typed client.
//
// The agent answers on the streams of its link, in the shapes of package wire. It decides nothing that is Docker's to
// decide: it tells facts, and refuses with one of the codes below, to which the engine gives Docker's words.
//
// The life of an agent: it links, and holds. Start runs the process. When that has ended, the agent lingers until
// Release or the linger's end; Start within it runs the process again on the same file system. With a restart policy it
// does so by itself, also while no backend is linked. Records of the log and events are numbered, kept until they are
// acknowledged, and asked for by number, so a backend that was away misses nothing.
package protocol

import (
	"errors"
	"time"

	"github.com/sockerless/sockerless/wire"
)

// The route table. The comment names the shape, the arguments and the answer.
const (
	PathState   = "/v1/state"       // call:     nil -> State
	PathStart   = "/v1/start"       // call:     StartRequest -> StartResult
	PathStop    = "/v1/stop"        // call:     StopRequest -> nil; returns at once, the exit is an event
	PathSignal  = "/v1/signal"      // call:     SignalRequest -> nil
	PathResize  = "/v1/resize"      // call:     ResizeRequest -> nil
	PathPause   = "/v1/pause"       // call:     nil -> nil; nothing runs any more when it answers. Also an event
	PathUnpause = "/v1/unpause"     // call:     nil -> nil; also an event
	PathTop     = "/v1/top"         // call:     TopRequest -> TopResult
	PathRestart = "/v1/restart"     // call:     RestartPolicy -> nil; the policy from now on
	PathStats   = "/v1/stats"       // call:     nil -> Stats
	PathAttach  = "/v1/attach"      // session:  AttachRequest
	PathEvents  = "/v1/events"      // feed:     EventsRequest -> Event
	PathLogs    = "/v1/logs"        // feed:     LogsRequest -> tape.Record
	PathAck     = "/v1/ack"         // call:     AckRequest -> nil
	PathRelease = "/v1/release"     // call:     nil -> nil; the agent kills what runs, ends, and the replica with it
	PathExec    = "/v1/exec"        // session:  ExecRequest; accepted once the process runs
	PathExecBg  = "/v1/exec.detach" // call:     ExecRequest -> ExecState
	PathExecGet = "/v1/exec.state"  // call:     ExecRef -> ExecState
	PathStat    = "/v1/files.stat"  // call:     FileRequest -> FileStat
	PathRead    = "/v1/files.read"  // download: FileRequest -> FileStat and a tar
	PathWrite   = "/v1/files.write" // upload:   WriteRequest and a tar -> nil
	PathChanges = "/v1/files.diff"  // feed:     ChangesRequest -> Change
	PathSize    = "/v1/files.size"  // call:     nil -> SizeResult
	PathExport  = "/v1/files.all"   // download: nil -> nil and a tar of the root file system without its mounts
	PathPack    = "/v1/files.pack"  // download: PackRequest -> nil and a tar
)

// The codes of an agent's refusals.
const (
	CodeNoCommand     = "no-command"     // 127: the executable is not there
	CodeNotExecutable = "not-executable" // 126: it is there and cannot be run; also a working directory that cannot be entered
	CodeNoUser        = "no-user"        // the user or group is not in the container's passwd or group
	CodeWrongUser     = "wrong-user"     // the agent has no right to become that user
	CodeNotRunning    = "not-running"    // the process does not run
	CodeRunning       = "running"        // it does
	CodePaused        = "paused"         // it does, and is paused
	CodeNoExec        = "no-exec"        // no such exec, or it is forgotten
	CodeNoPath        = "no-path"        // no such file or directory
	CodeNotDirectory  = "not-directory"  // the path is to be a directory, and is not
	CodeDirConflict   = "dir-conflict"   // a directory would replace something else, or the reverse
	CodePermission    = "permission"     // the kernel says no
	CodeNoSpace       = "no-space"       // the disk is full
	CodeInvalid       = "invalid"        // the request is wrong
	CodeGone          = "gone"           // these records are dropped
)

// HasCode says whether err is an agent's refusal with this code.
func HasCode(err error, code string) bool {
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Code == code
}

// Phase is where the agent is in its life.
type Phase string

// The phases.
const (
	PhaseHeld       Phase = "held"       // linked, nothing started yet
	PhaseRunning    Phase = "running"    // the process runs
	PhaseRestarting Phase = "restarting" // it has ended, and will run again after a pause
	PhaseExited     Phase = "exited"     // it has ended; the agent lingers
)

// State is what the agent knows of itself.
type State struct {
	Phase       Phase
	BootID      string // random, made when the agent started
	Execution   string // the platform's name for this replica's execution
	Incarnation int    // how often the process was started
	Pid         int
	Started     time.Time
	Exit        *Exit // of this incarnation; nil while it runs
	LastLog     uint64
	LastEvent   uint64
	Uid, Gid    int // what the agent runs as
	Hostname    string
	Addresses   []string
}

// Process is what to run, fully resolved: nothing is added from the image or the agent's own environment.
type Process struct {
	Args    []string // Args[0] is looked up in Env's PATH
	Env     []string
	Dir     string // made if it is missing, as Docker does, for the container's process; must be there for an exec
	User    string // name|uid[:group|gid]; empty: what the agent runs as. HOME is added to Env if it has none
	Tty     bool
	Size    *Size // of the terminal
	Ulimits []Ulimit
	Groups  []string // added supplementary groups, names or ids
}

// Size of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// Ulimit as in `docker run --ulimit`.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// StartRequest starts the container's process. Key makes it safe to repeat: a second Start with the key of the one
// that succeeded answers what that one did.
type StartRequest struct {
	Key       string
	Process   Process
	OpenStdin bool          // else its standard input is empty
	StdinOnce bool          // the input ends when the first attached client that brought one has gone
	Linger    time.Duration // how long the agent stays after exit and acknowledgement; 0: it goes at once
	Orphan    time.Duration // how long it stays after an exit without any acknowledgement
	LogLimit  int64         // bytes of log kept for a backend that is away; 0: the agent's default
	Restart   RestartPolicy
	Restarts  int           // what the policy has restarted already, in an execution before
	Backoff   time.Duration // the last pause before that
	Health    *HealthCheck  // nil: nobody asks how the process is
}

// StartResult is the new process.
type StartResult struct {
	Pid         int
	Incarnation int
	Started     time.Time
}

// StopRequest asks the process to end: Signal, and SIGKILL to all that is left after Grace. A negative Grace has no end.
// No policy restarts it after that. Resume ends a pause once the signal is sent, unless that is SIGKILL.
type StopRequest struct {
	Signal string
	Grace  time.Duration
	Resume bool
}

// SignalRequest sends a signal: a name with or without SIG, or a number. Final says that no policy restarts the process
// after that; then the end of a pause before a restart is an answer too, and processes that are paused go on once it is
// sent, unless it is SIGKILL.
type SignalRequest struct {
	Signal string
	Final  bool
}

// ResizeRequest sets a terminal's size; Exec is empty for the container's own.
type ResizeRequest struct {
	Exec string
	Size Size
}

// TopRequest asks for the container's processes. Args are those of ps; empty: -ef.
type TopRequest struct{ Args string }

// TopResult is a table as ps prints it.
type TopResult struct {
	Titles    []string
	Processes [][]string
}

// AttachRequest joins the process's streams; it may come before Start. The session's output is stdcopy frames, or the
// terminal's bytes. DetachKeys holds the bytes whose sequence ends the session and leaves the process; empty: none.
type AttachRequest struct {
	Stdin, Stdout, Stderr bool
	DetachKeys            []byte
	// Replay gives the kept log records with larger numbers than After first, and the beginning of a line that has no
	// end yet, without a hole or a repetition at the seam. What was lost is told as in a feed of the log, on stderr.
	// If some were acknowledged and dropped, it is CodeGone: whoever stored them has them.
	Replay bool
	After  uint64
	// Incarnation, if set, is the one to join. One that has ended gives what Replay gives and its end; without Replay
	// it is CodeNotRunning. If not set, it is the one that runs, or else the next.
	Incarnation int
}

// ExecRequest runs a process beside the container's own. ID is the engine's.
type ExecRequest struct {
	ID                    string
	Process               Process
	Stdin, Stdout, Stderr bool
	DetachKeys            []byte
}

// ExecRef names an exec.
type ExecRef struct{ ID string }

// ExecState is what became of an exec. Exits are kept for some minutes.
type ExecState struct {
	ID      string
	Pid     int
	Running bool
	Exit    *Exit
}

// Exit is how a process ended.
type Exit struct {
	Code   int // the exit status, or 128 and the signal
	Signal int // 0 if it exited by itself
	OOM    bool
	Killed bool // by the agent, because the grace of a stop had passed
	Time   time.Time
}

// EventsRequest asks for the events with larger numbers than After, and follows.
type EventsRequest struct{ After uint64 }

// EventKind says what happened.
type EventKind string

// The kinds.
const (
	EventStarted  EventKind = "started"   // the process runs: Incarnation, Pid, Restarts
	EventExited   EventKind = "exited"    // it has ended: Incarnation, Exit, LastLog, Restart or Leaving
	EventStays    EventKind = "stays"     // the restart that was announced does not come: Incarnation, Refusal or Leaving
	EventExecExit EventKind = "exec-exit" // an exec has ended: Exec, Exit
	EventOOM      EventKind = "oom"
	EventHealth   EventKind = "health"   // a probe has ended, or probes stop for a while: Incarnation, Health
	EventPaused   EventKind = "paused"   // all processes are stopped: Incarnation
	EventUnpaused EventKind = "unpaused" // and go on: Incarnation
	EventDetached EventKind = "detached" // a client has typed the detach keys: Incarnation, and Exec if it left one
)

// Event is one of the agent's numbered events.
type Event struct {
	Seq         uint64
	Time        time.Time
	Kind        EventKind
	Incarnation int
	Pid         int
	Exec        string
	Exit        *Exit
	LastLog     uint64 // the number of the last log record before an exit

	Restarts int      // by the policy, since Start, with what that has told
	Restart  *Restart // the process will run again; nil: it does not
	Leaving  bool     // it does not because the agent was told to end, by the platform or by a process of the container
	Refusal  *Refusal // why it could not be run again
	Health   *Health
}

// Refusal is an agent's error in an event.
type Refusal struct{ Code, Message string }

// LogsRequest asks for the records with larger numbers than After. With Follow it goes on until the agent ends. Records
// that are gone, lost or acknowledged, are told by a tape.Gap record with the number of the last of them.
type LogsRequest struct {
	After  uint64
	Follow bool
}

// AckRequest says up to which numbers the backend has stored events and log records. The agent drops them.
type AckRequest struct{ Log, Event uint64 }

// FileRequest names a path inside the container, absolute.
type FileRequest struct{ Path wire.Bytes }

// FileStat describes a path, as Docker's X-Docker-Container-Path-Stat does.
type FileStat struct {
	Name       string
	Size       int64
	Mode       uint32 // os.FileMode
	ModTime    time.Time
	LinkTarget string
}

// ChangesRequest asks what was touched below a directory since the agent began, and what else is in directories that were;
// with All, for everything below it.
type ChangesRequest struct {
	Path wire.Bytes
	All  bool
}

// Change is a file that was touched, or is beside one that was or has gone. They come in the order of a walk: a directory
// before what is in it, names in the order of their bytes.
type Change struct {
	Path     wire.Bytes // below the directory, with a slash in front; empty is that itself
	Mode     uint32     // os.FileMode
	Uid, Gid int
	ModTime  time.Time
	Touched  bool // its content, its attributes, or, for a directory, which files are in it
	Mounted  bool // something is mounted here, so what it is and has is not the container's
}

// SizeResult is how much the files are that were touched since the agent began, mounts and directories left out. A file with
// several names counts once.
type SizeResult struct{ Bytes int64 }

// PackRequest asks for files, a directory without what is in it, by their absolute paths. No path goes through a link. In
// the order of a walk it opens each directory once. All paths of one request are in memory.
type PackRequest struct{ Paths []wire.Bytes }

// WriteRequest unpacks a tar, plain or packed with gzip or bzip2, into the directory Path, which may be a link to one.
// What is written belongs to whom the archive says, as far as the agent may give files away. With CopyUIDGID it belongs
// to User, as dockerd has it for a container with a user, or, without one, to whom the archive says; then
// CodePermission is the answer where the agent may not do that.
type WriteRequest struct {
	Path                 wire.Bytes
	NoOverwriteDirNonDir bool
	CopyUIDGID           bool
	User                 string       // name|uid[:group|gid]: the container's user
	Dirs                 []wire.Bytes // made first if they are missing, with 0755
}
