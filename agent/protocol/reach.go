package protocol

// ReachCommand is the argument with which an agent's program finds out whether its backend can be reached from where it
// is, and does nothing else. Its exit code says what it found: a job's exit code is all that is told at once.
const ReachCommand = "reach"

// The exit codes of ReachCommand. They are none that a shell or a signal makes.
const (
	Reached         = 0  // a backend answers there, whether it knows the agent's run or not
	ReachNoName     = 20 // the URL's host has no address here
	ReachNoAnswer   = 21 // nothing takes the connection, or answers on it
	ReachUntrusted  = 22 // the certificate is of no authority that is known here
	ReachNoHub      = 23 // what answers is no backend, or a proxy that lets no WebSocket through
	ReachOtherAgent = 24 // the backend speaks another version of the link
	ReachSettings   = 25 // the agent's settings are wrong
)
