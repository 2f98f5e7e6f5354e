package azuresim

import (
	"context"
	"net"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Runtime runs replicas: one pod of containers each, as Container Apps does for a job execution.
type Runtime interface {
	// Start pulls the images, runs the init containers one after the other and then the containers.
	// It returns once the replica is accepted; pulling and starting go on behind it and are told through
	// spec.Events. Cancelling ctx does not end the replica.
	Start(ctx context.Context, spec ReplicaSpec) (Replica, error)
	// Close kills every replica and frees what they used. The runtime cannot be used afterwards.
	Close() error
}

// Replica is one running pod.
type Replica interface {
	// DialContext connects to a TCP port inside the replica.
	DialContext(ctx context.Context, port uint16) (net.Conn, error)
	// Done is closed when every container has ended, or the replica could not start and was given up by Stop.
	Done() <-chan struct{}
	// Result is what became of the containers. It is valid after Done.
	Result() ReplicaResult
	// Stop sends SIGTERM to the containers' processes, and SIGKILL after grace. It returns at once; Done tells the end.
	Stop(grace time.Duration)
}

// ReplicaSpec says what a replica runs. Output and Events must be quick and may be called concurrently.
type ReplicaSpec struct {
	Name       string                     // {execution}-{5 lower alphanumerics}; unique
	Hostname   string                     // what gethostname answers inside: Name
	Init       []ContainerSpec            // run in order, each must exit 0
	Containers []ContainerSpec            // run side by side
	EmptyDirs  []string                   // names of EmptyDir volumes (mode 0777), mounted by ContainerSpec.Mounts
	Shares     map[string]string          // Azure Files volumes: volume name to host folder
	Pull       authn.Keychain             // credentials for the images of this replica
	Insecure   func(registry string) bool // whether plain http is allowed for that registry (host:port)
	Resources  Resources                  // limits of the whole replica
	Loopback   []uint16                   // ports of this machine's loopback that are the replica's too
	HTTPS      uint16                     // the port of this machine's loopback that port 443 of every name of the cloud leads to

	// Output receives one line without its newline; stream is "stdout" or "stderr". line must not be retained.
	Output func(container, stream string, line []byte)
	// Events receives the rows of the system log.
	Events func(Event)
}

// ContainerSpec is one container of a replica.
type ContainerSpec struct {
	Name      string
	Image     string    // as in the job template: a tag or digest reference
	Command   []string  // replaces the image's ENTRYPOINT and CMD, as in Kubernetes; empty: the image's own
	Args      []string  // replaces the image's CMD
	Env       []string  // KEY=VALUE, secrets resolved; wins over the image's own
	Mounts    []Mount   // volumes of the replica
	Resources Resources // limits of this container
}

// Mount puts a volume of the replica into a container.
type Mount struct {
	Volume   string // a name of ReplicaSpec.EmptyDirs or Shares
	Path     string // absolute, inside the container
	ReadOnly bool
}

// Resources are limits; zero is none.
type Resources struct {
	CPU         float64 // cores
	MemoryBytes int64
}

// ReplicaResult is what became of a replica's containers.
type ReplicaResult struct {
	Containers []ContainerResult // those that ran, init containers first
	Err        error             // why it never ran (a pull, a missing command); nil if it ran
}

// ContainerResult is the end of one container.
type ContainerResult struct {
	Name       string
	ExitCode   int
	OOMKilled  bool
	StartedAt  time.Time
	FinishedAt time.Time
}

// Event is one row of the system log.
type Event struct {
	Time time.Time
	// Reason is Azure's word: SuccessfulCreate, AssigningReplica, PullingImage, PulledImage, ContainerCreated,
	// ContainerStarted, ContainerTerminated, ImagePullFailure, ContainerCreateFailure...
	Reason    string
	Message   string
	Container string // empty: the replica's own
	Type      string // Normal or Warning
}
