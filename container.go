package sockerless

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Container is a container as its backend knows it. It is a copy: changing it changes nothing.
type Container struct {
	ID       string // 64 hexadecimal digits
	Name     string // without Docker's leading slash
	Created  time.Time
	Platform string // as asked for at create: "linux/amd64", or empty

	// What create was asked for, the image's own defaults (env, command, user...) merged into Config.
	Config           *container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
	// Raw is create's body, or what of it Config and HostConfig do not know, so that fields unknown to this program survive
	// in inspect.
	Raw json.RawMessage

	// LogAttributes are what `docker logs --details` shows of each line.
	LogAttributes map[string]string

	Image    string // the image's id: sha256:<hex of its config>
	ImageRef string // what the job runs: repository@digest

	State        State
	RestartCount int
	Execs        []string // ids of those that run or have not been started; Find tells them, List does not
	Run          *Run     // the cloud's side of the latest start; nil before the first
}

// State is where a container is in its life.
type State struct {
	Status     container.ContainerState // created, running, paused, restarting, removing, exited, dead
	Starting   bool                     // Status is running, but the agent has not answered yet
	Pid        int
	ExitCode   int
	OOMKilled  bool
	Error      string // why the last start or run failed
	StartedAt  time.Time
	FinishedAt time.Time
	Health     *container.Health
}

// Run says where in the cloud a container ran last, for people who look there.
type Run struct {
	Job       string
	Execution string
	// Incarnation counts the starts within one execution; it is more than 1 after a restart in place.
	Incarnation int
}

// ContainerService is what can be asked of containers.
type ContainerService interface {
	// Create records a container and makes nothing in the cloud. ENOTFOUND "No such image" if the image was never
	// pulled; ECONFLICT if the name is taken; EUNSUPPORTED, naming the option, for what the cloud cannot do.
	Create(ctx context.Context, req CreateRequest) (*CreateResult, error)

	// Find returns one container.
	Find(ctx context.Context, ref string) (*Container, error)

	// List yields containers, the newest first, with what a list shows: ID, Name, Created, Image, NetworkingConfig and State
	// without the log of its Health; of Config the image, the entrypoint, the command, the labels and the exposed ports, of
	// HostConfig the network mode and the annotations. An unknown filter is EINVALID.
	List(ctx context.Context, opt ListOptions) iter.Seq2[*Container, error]

	// Start makes the container run. It returns once the process runs, or once the start has taken so long that
	// clients would give up: then State.Starting is set and a late failure is told by Wait and State.Error.
	// ENOTMODIFIED if it runs already.
	Start(ctx context.Context, ref string) error

	// Stop sends the stop signal, kills after the grace, and returns once the container has exited. ENOTMODIFIED if
	// it does not run.
	Stop(ctx context.Context, ref string, opt StopOptions) error

	// Restart is Stop, then Start; a container that does not run is started.
	Restart(ctx context.Context, ref string, opt StopOptions) error

	// Signal sends a signal (a name with or without SIG, or a number) to the container's process. ECONFLICT if it
	// does not run.
	Signal(ctx context.Context, ref, signal string) error

	// Pause stops everything that the container runs until Unpause. ECONFLICT if it does not run or is paused already.
	Pause(ctx context.Context, ref string) error

	// Unpause lets a paused container go on. ECONFLICT if it is not paused.
	Unpause(ctx context.Context, ref string) error

	// Rename gives the container another name. ECONFLICT if that is taken.
	Rename(ctx context.Context, ref, name string) error

	// Update changes the restart policy, at once, and resources, for the next start; what is zero stays. EUNSUPPORTED,
	// naming the option, for what cannot be changed. The warnings say what takes effect later, or not at all.
	Update(ctx context.Context, ref string, config container.UpdateConfig) (warnings []string, err error)

	// Remove forgets the container and deletes its job; it returns when that is durable, not when Azure has finished.
	// ECONFLICT if it runs and opt.Force is not set.
	Remove(ctx context.Context, ref string, opt RemoveOptions) error

	// Prune removes all containers that do not run and returns their ids.
	Prune(ctx context.Context, filters Filters) (*container.PruneReport, error)

	// Wait yields twice. The first update, which says that the wait stands, comes at once: no exit after it can be
	// missed. The second one is the exit.
	Wait(ctx context.Context, ref string, condition container.WaitCondition) iter.Seq2[WaitUpdate, error]

	// Resize sets the size of the container's terminal. Before the start it is remembered.
	Resize(ctx context.Context, ref string, size TerminalSize) error

	// Top lists the container's processes as ps does with these arguments; empty: -ef. ECONFLICT if it does not run;
	// EINVALID, by name, for an option that is not known here.
	Top(ctx context.Context, ref, psArgs string) (*container.TopResponse, error)

	// Stats yields what the container uses: each second until it is removed, or once. Of a container that does not run,
	// and of what cannot be seen, there are no figures. A stream begins with nil at once, which says that there is one,
	// however long its figures take.
	Stats(ctx context.Context, ref string, opt StatsOptions) iter.Seq2[*container.StatsResponse, error]

	// Logs yields the records of the container's output in the order in which they were written.
	Logs(ctx context.Context, ref string, opt LogOptions) iter.Seq2[LogRecord, error]

	// Attach connects to the process's streams. On a created container it stands before the process starts, so no
	// byte is lost. ctx bounds the opening only.
	Attach(ctx context.Context, ref string, opt AttachOptions) (Session, error)

	// Stat describes a path inside the container. ENOTFOUND in Docker's words if it is not there.
	Stat(ctx context.Context, ref, path string) (*container.PathStat, error)

	// ReadTree returns the path as a tar stream, as `docker cp` wants it; the caller closes it. A stream that ends
	// without tar's end mark was cut off, and its Read says why.
	ReadTree(ctx context.Context, ref, path string) (*container.PathStat, io.ReadCloser, error)

	// WriteTree unpacks a tar stream into an existing folder.
	WriteTree(ctx context.Context, ref, path string, opt WriteOptions, tar io.Reader) error

	// Changes yields what in the container's root file system is not as its image has it, a directory before what is in
	// it. Mounts are left out.
	Changes(ctx context.Context, ref string) iter.Seq2[container.FilesystemChange, error]

	// Size says how much the container takes. It looks at all of its files, so it takes as long as Changes.
	Size(ctx context.Context, ref string) (*ContainerSize, error)

	// Commit makes an image of the container's and of what has changed in the container, pushes it into the configured
	// registry and records it. It returns the new image's id.
	Commit(ctx context.Context, ref string, opt CommitOptions) (id string, err error)

	// Export returns the container's whole root file system as a tar stream, without what is mounted in it; the caller
	// closes it. One that was cut off ends as ReadTree's does.
	Export(ctx context.Context, ref string) (io.ReadCloser, error)
}

// CreateRequest is what to create. Config is required.
type CreateRequest struct {
	Name             string // empty: one is made up
	Platform         string
	Config           *container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
	Raw              json.RawMessage // the body as it came, or what of it the others do not know
}

// CreateResult is the new container's id and what its user should know.
type CreateResult struct {
	ID       string
	Warnings []string
}

// Filters are Docker's: a container must match every key, and any of a key's values.
type Filters map[string][]string

// ContainerSize is in bytes.
type ContainerSize struct {
	Written int64 // files that were made or changed; none before the first start, and when its file system has gone; -1: not known now
	Whole   int64 // those and the image, as large as it is in its registry
}

// ListOptions selects containers. The zero value is the running ones, as `docker ps`.
type ListOptions struct {
	All     bool
	Limit   int // 0: no limit; else the newest n, running or not
	Filters Filters
}

// StopOptions is how to stop. The zero value takes both from the container.
type StopOptions struct {
	Signal string
	Grace  *time.Duration // nil: the container's StopTimeout, else 10 s; negative: no limit
}

// RemoveOptions is how to remove.
type RemoveOptions struct {
	Force   bool // kill it first if it runs
	Volumes bool // its anonymous volumes too
}

// WaitUpdate is what Wait yields.
type WaitUpdate struct {
	Exited   bool // false in the first update
	ExitCode int
	Error    string // why the container could not be run, if so
}

// TerminalSize is in characters.
type TerminalSize struct{ Rows, Cols uint16 }

// AttachOptions selects the streams of an attach.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs                  bool   // first what was written so far
	Stream                bool   // then what comes
	DetachKeys            string // as in Docker: "ctrl-p,ctrl-q"; empty: that default. Only with a terminal.
}

// CommitOptions is what to make of a container.
type CommitOptions struct {
	Ref     string // the tag to give; empty: none
	Comment string
	Author  string
	Changes []string          // Dockerfile instructions: CMD, ENV, USER...
	Config  *container.Config // what the image says to its containers, the container's filled in; nil: as the container's
	Pause   bool              // stop the container's processes while its files are read, if they run
}

// StatsOptions is how often to measure. The zero value is once, with the processor time of the second before.
type StatsOptions struct {
	Stream  bool // each second
	OneShot bool // once and at once, without a second before; not with Stream
}

// WriteOptions is how WriteTree unpacks.
type WriteOptions struct {
	NoOverwriteDirNonDir bool // refuse to replace a folder by something else, or the reverse
	CopyUIDGID           bool // keep the owners that the archive names
}
