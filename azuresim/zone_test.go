package azuresim

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// ask resolves a name at the zone over one transport.
func (s *stage) ask(network, name string, kind uint16) *dns.Msg {
	s.t.Helper()
	c := &dns.Client{Net: network, Timeout: time.Minute}
	answer, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), s.srv.DNSAddr)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
}

func TestExecutionsHaveNamesAndAddresses(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	s.runtime.script(func(r *scriptedReplica) {
		r.dial = func(_ context.Context, port uint16) (net.Conn, error) {
			if port != agentPort {
				return nil, errors.New("another port")
			}
			outside, inside := net.Pipe()
			go func() { // ends with the connection
				defer inside.Close()
				b := make([]byte, 4)
				if _, err := io.ReadFull(inside, b); err == nil {
					inside.Write([]byte(strings.ToUpper(string(b)) + r.spec.Name))
				}
			}()
			return outside, nil
		}
	})
	e := s.start("web")
	r := s.replica(0)
	domain := domainPrefix(s.world.Environment) + "." + s.world.Location + ".azurecontainerapps.azuresim.internal"
	var addr string
	eventually(t, "the name resolves", func() bool { return len(s.ask("udp", e, dns.TypeA).Answer) == 1 })
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{e, strings.ToUpper(e), e + "." + domain} {
			m := s.ask(network, name, dns.TypeA)
			if len(m.Answer) != 1 || m.Rcode != dns.RcodeSuccess {
				t.Fatalf("%s over %s: %v", name, network, m)
			}
			addr = m.Answer[0].(*dns.A).A.String()
		}
	}
	if !netip.MustParsePrefix("127.64.0.0/10").Contains(netip.MustParseAddr(addr)) {
		t.Errorf("address %s", addr)
	}
	if m := s.ask("udp", e, dns.TypeAAAA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("AAAA: %v", m)
	}
	for _, name := range []string{"other", e + ".example.com", r.spec.Name, "web"} {
		if m := s.ask("udp", name, dns.TypeA); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s: %v", name, m)
		}
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(addr, "9111"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "PING"+r.spec.Name {
		t.Errorf("the replica answers %q (%v)", got, err)
	}
	r.exit(0)
	eventually(t, "the name is gone", func() bool { return s.ask("udp", e, dns.TypeA).Rcode == dns.RcodeNameError })
	if c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "9111"), time.Second); err == nil {
		c.Close()
		t.Error("the address of an execution that is over accepts connections")
	}
}

func TestPortThatNobodyListensOnIsReset(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	s.runtime.script(func(r *scriptedReplica) {
		r.dial = func(context.Context, uint16) (net.Conn, error) { return nil, errors.New("connection refused") }
	})
	e := s.start("web")
	s.replica(0)
	var addr string
	eventually(t, "the name resolves", func() bool {
		m := s.ask("udp", e, dns.TypeA)
		if len(m.Answer) == 1 {
			addr = m.Answer[0].(*dns.A).A.String()
		}
		return addr != ""
	})
	conn, err := net.Dial("tcp", net.JoinHostPort(addr, "9111"))
	if err != nil {
		return // reset before the dial returned
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection ends as if the replica had closed it, or not at all: %v", err)
	}
}
