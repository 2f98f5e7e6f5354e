package link_test

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/sockerless/sockerless/link"
)

// A stream is a net.Conn as package net means it, from either end, and while its link is cut now and then.
func TestConn(t *testing.T) {
	for _, c := range []struct {
		name string
		cuts bool
	}{{"calm", false}, {"cut", true}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, link.Options{}, nil)
			ends := [2]*link.Link{}
			ends[0], ends[1] = r.link()
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				ends[0], ends[1] = ends[1], ends[0]
				o, a := stream(t, ends[0], ends[1])
				if c.cuts {
					ends[0].Cut()
				}
				return o, a, func() { _ = o.Close(); _ = a.Close() }, nil
			})
			for _, l := range ends {
				eventually(t, "nothing is left", func() bool { return l.Left() == "" })
			}
		})
	}
}
