package sockerless

import "io"

// Session is an accepted exchange of bytes with a process: attach or exec.
//
// Reading gives the process's output: Docker's stdcopy frames, or, if the process has a terminal, the terminal's bytes
// as they are. No layer between agent and client re-frames them. io.EOF is the end of the output. Whatever the outcome
// is (an exit code), it is recorded before that end is seen, so who reads to io.EOF may ask for it at once.
//
// Writing goes to the process's standard input. CloseWrite is a half-close: it ends the input and leaves the output.
// Close ends the session, not the process. Whoever got the session closes it.
type Session interface {
	io.ReadWriteCloser
	CloseWrite() error
}
