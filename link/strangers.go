package link

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Strangers bounds the connections of an http.Server whose peers have proved nothing: a timeout for headers bounds how long
// each may stay, not how many there are, and each costs a descriptor and some memory. Its State is the server's ConnState. What
// a hub takes over counts there and not here. As at a hub, the oldest gives way to who comes.
type Strangers struct {
	most  int
	known func(net.Conn) bool

	mu  sync.Mutex
	all []stranger // the oldest first
}

type stranger struct {
	conn  net.Conn
	since time.Time
}

// NewStrangers allows so many. known, which may be nil, says of a connection that it does not count.
func NewStrangers(most int, known func(net.Conn) bool) *Strangers {
	return &Strangers{most: most, known: known}
}

// State is the server's hook.
func (s *Strangers) State(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if s.known == nil || !s.known(c) {
			s.come(c)
		}
	case http.StateHijacked, http.StateClosed:
		s.mu.Lock()
		s.all = slices.DeleteFunc(s.all, func(o stranger) bool { return o.conn == c })
		s.mu.Unlock()
	}
}

// come counts a connection. If there are too many, the oldest is closed, or, if that has not had its time, the new one.
func (s *Strangers) come(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= s.most {
		if time.Since(s.all[0].since) < handshakeGrace {
			_ = c.Close() // nothing was said on it
			return
		}
		_ = s.all[0].conn.Close() // as above
		s.all = slices.Delete(s.all, 0, 1)
	}
	s.all = append(s.all, stranger{c, time.Now()})
}
