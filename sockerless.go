// Package sockerless runs Docker containers as jobs in a cloud: people keep their docker CLI, SDKs and compose files,
// and each container becomes one Azure Container Apps Job execution.
//
// A frontend speaks Docker and asks a backend. The backend's engine knows Docker's rules and uses a driver to run jobs
// in a cloud. Inside each job an agent answers for the container.
//
//	 your machine                          near the cloud                        in the cloud
//	┌───────────────────────────┐        ┌──────────────────────────┐         ┌─────────────────────────┐
//	│ docker CLI · compose · SDK│        │ backend                  │◀───────▶│ job execution           │
//	│        │ unix socket      │        │  engine  Docker's rules  │  link   │   agent                 │
//	│ frontend (dockerapi)      │◀──────▶│  store   durable state   │         │   ├ the user's process  │
//	│                           │ Backend│  driver  ── ARM ─────────┼────────▶│   ├ exec, tty, signals  │
//	└───────────────────────────┘        └──────────────────────────┘         │   └ files (tar), logs   │
//	                                                                          └─────────────────────────┘
//
// This package holds the nouns and the interfaces between frontend and backend, and nothing that does work. [Backend]
// has two implementations: package engine, and package remote, which is a Backend over the wire.
//
// Three shapes alone cross a process boundary, and a method's signature tells which one it is:
//
//	Find(ctx, ref) (*Container, error)               call:    one question, one answer
//	Logs(ctx, ref, opt) iter.Seq2[LogRecord, error]  feed:    records until the end or an error, which comes last
//	Attach(ctx, ref, opt) (Session, error)           session: an accepted exchange of bytes both ways
//
// A call may carry a stream of bytes along (an io.Reader argument, an io.ReadCloser result): files travel so.
//
// In all of these, ref is what a user typed (a name, an id, an unambiguous prefix of an id), id is 64 hexadecimal
// digits. Errors carry a [Code]; see [ErrorCode].
package sockerless

// Backend is everything that a frontend may ask for. A nil service is not offered: a frontend refuses what needs it
// and says so.
type Backend struct {
	Containers ContainerService
	Execs      ExecService
	Images     ImageService
	Networks   NetworkService
	Volumes    VolumeService
	System     SystemService
}
