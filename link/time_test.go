package link_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/link/linktest"
)

// inMemory runs f in a bubble with a link in memory, whose options are the defaults where opt does not say more.
func inMemory(t *testing.T, opt link.Options, wrap func(net.Conn) net.Conn, f func(t *testing.T, way *linktest.Network, hub *link.Hub, agent, backend *link.Link)) {
	synctest.Test(t, func(t *testing.T) {
		if opt.MaxStreams == 0 {
			opt.MaxStreams = 256
		}
		defer time.Sleep(time.Minute) // what is on its way in the network arrives
		way := linktest.NewNetwork(wrap)
		hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, opt)
		server := &http.Server{Handler: hub}
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(way) })
		defer served.Wait()
		defer server.Close()
		defer hub.Close()
		agent, err := link.Dial(t.Context(), link.Target{URL: "http://hub/agent", NetDial: way.Dial}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, opt)
		if err != nil {
			t.Fatal(err)
		}
		defer agent.Close()
		backend, err := hub.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f(t, way, hub, agent, backend)
	})
}

// A cut of a minute with every buffer full: writers wait, nothing is lost, nobody times out. And so one of nearly the whole
// resume window of five minutes.
func TestMinutesCutWithFullBuffers(t *testing.T) {
	for _, cut := range []time.Duration{time.Minute, 4*time.Minute + 50*time.Second} {
		t.Run(cut.String(), func(t *testing.T) {
			inMemory(t, link.Options{}, nil, func(t *testing.T, way *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
				const size = 6 << 20
				var all sync.WaitGroup
				readers := make(chan struct{})
				for i, ends := range [][2]*link.Link{{backend, agent}, {agent, backend}, {backend, agent}, {agent, backend}} {
					o, a := stream(t, ends[0], ends[1])
					data := linktest.NewSource(uint64(i), size, 1<<20)
					all.Go(func() {
						_, err := o.ReadFrom(data)
						if err := errors.Join(err, o.CloseWrite()); err != nil {
							t.Errorf("write: %v", err)
						}
					})
					all.Go(func() {
						<-readers
						got, err := io.ReadAll(a)
						if err != nil || !bytes.Equal(got, data.Bytes()) {
							t.Errorf("read %d of %d bytes, %v", len(got), size, err)
						}
					})
				}
				synctest.Wait() // every window is full
				close(readers)
				way.Set(true)
				time.Sleep(cut)
				if agent.Connected() || backend.Connected() || agent.Err() != nil || backend.Err() != nil {
					t.Errorf("connected %t and %t, %v and %v", agent.Connected(), backend.Connected(), agent.Err(), backend.Err())
				}
				way.Set(false)
				all.Wait()
				if n := agent.Stats().Carriers; n != 2 {
					t.Errorf("%d carriers", n)
				}
			})
		})
	}
}

// By default a link is given up after five minutes, and a silent path found after half a minute at the latest.
func TestDefaultTimes(t *testing.T) {
	t.Run("resume window", func(t *testing.T) {
		inMemory(t, link.Options{}, nil, func(t *testing.T, way *linktest.Network, hub *link.Hub, agent, backend *link.Link) {
			way.Set(true)
			time.Sleep(5*time.Minute - time.Second)
			if agent.Err() != nil || backend.Err() != nil {
				t.Errorf("given up too soon: %v, %v", agent.Err(), backend.Err())
			}
			time.Sleep(2 * time.Second)
			if !errors.Is(agent.Err(), link.ErrLost) || !errors.Is(backend.Err(), link.ErrLost) || hub.Stats().Links != 0 {
				t.Errorf("not given up: %v, %v, %+v", agent.Err(), backend.Err(), hub.Stats())
			}
		})
	})
	t.Run("keep-alive", func(t *testing.T) {
		silent := linktest.Break{Kind: linktest.Silent, After: 100_000}
		first := true
		inMemory(t, link.Options{}, func(conn net.Conn) net.Conn {
			if first {
				first = false
				return silent.Wrap(conn)
			}
			return conn
		}, func(t *testing.T, _ *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
			time.Sleep(time.Hour) // idle
			if n := agent.Stats().Carriers; n != 1 {
				t.Errorf("%d carriers while nothing happened", n)
			}
			o, a := stream(t, agent, backend)
			begin := time.Now()
			go func() { _, _ = o.Write(make([]byte, 200_000)); _ = o.CloseWrite() }() // ends with the stream
			if n, err := io.Copy(io.Discard, a); err != nil || n != 200_000 {
				t.Errorf("copied %d, %v", n, err)
			}
			if took := time.Since(begin); took > 45*time.Second {
				t.Errorf("the silence took %v to find", took)
			}
		})
	})
}

// A Close says goodbye to nobody while the link is cut, and does not wait.
func TestCloseWhileCutDoesNotWait(t *testing.T) {
	inMemory(t, link.Options{}, nil, func(t *testing.T, way *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
		way.Set(true)
		synctest.Wait()
		begin := time.Now()
		_ = backend.Close()
		_ = agent.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// fill writes to o until nothing is taken any more, while nobody reads, and returns how much was.
func fill(t *testing.T, o *link.Stream) int {
	t.Helper()
	_ = o.SetWriteDeadline(time.Now().Add(2 * time.Second))
	n, err := o.Write(make([]byte, 32<<20))
	if err == nil {
		t.Fatal("32 MiB are taken that nobody reads")
	}
	_ = o.SetWriteDeadline(time.Time{})
	return n
}

// Over 30 ms of round trip the windows grow to what one fast stream needs, and not beyond the budgets.
func TestWindowsGrow(t *testing.T) {
	const oneWay = 15 * time.Millisecond
	far := func(conn net.Conn) net.Conn { return newFarConn(conn, oneWay, 0) }
	for _, c := range []struct {
		name         string
		opt          link.Options
		atMost, more int // of what is taken of a stream that nobody reads any more
	}{
		{"default", link.Options{}, 9 << 20, 3 << 20},
		{"link's budget", link.Options{WindowBudget: 1 << 20}, 3 << 19, 0},
		{"hub's budget", link.Options{HubBudget: 1 << 20}, 3 << 19, 0},
		{"largest window", link.Options{MaxWindow: 512 << 10}, 1 << 20, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, c.opt, far, func(t *testing.T, _ *linktest.Network, hub *link.Hub, agent, backend *link.Link) {
				time.Sleep(10 * oneWay) // the first measurement of the round trip
				o, a := stream(t, agent, backend)
				const size = 32 << 20
				go func() { // ends when everything is written, or with the link
					_, _ = io.Copy(struct{ io.Writer }{o}, linktest.NewSource(1, 2*size, 64<<10))
				}()
				var speed float64
				for i := range 2 {
					begin := time.Now()
					if n, err := io.CopyN(io.Discard, a, size); err != nil {
						t.Fatalf("%d bytes, %v", n, err)
					}
					// The time is that of the path alone: what the protocol lets through, whatever the machine.
					speed = size / time.Since(begin).Seconds() / 1e6
					t.Logf("%d: %.0f MB/s in the bubble's time", i, speed)
				}
				if c.more > 0 && speed < 60 {
					t.Errorf("%.0f MB/s over 30 ms", speed)
				}
				grown := hub.Stats().Window
				if n := fill(t, o); n > c.atMost || n < c.more || c.more == 0 && grown > 1<<20 {
					t.Errorf("%d bytes are taken of a stream that nobody reads, and the windows have grown by %d", n, grown)
				}
				_ = o.Reset()
				_ = a.Reset()
				synctest.Wait()
				if left := hub.Stats().Window; left != 0 {
					t.Errorf("%d bytes of the budget are used by nobody", left)
				}
			})
		})
	}
}

// What nobody reads counts in the budget, whether or not more may come behind it.
func TestUnreadDataCount(t *testing.T) {
	far := func(conn net.Conn) net.Conn { return newFarConn(conn, 15*time.Millisecond, 0) }
	for _, c := range []struct {
		name string
		end  func(a *link.Stream)
	}{
		{"read", func(a *link.Stream) { _, _ = io.Copy(io.Discard, a) }},
		{"closed", func(a *link.Stream) { _ = a.Close() }},
		{"reset", func(a *link.Stream) { _ = a.Reset() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, both := range []bool{false, true} {
				inMemory(t, link.Options{}, far, func(t *testing.T, _ *linktest.Network, hub *link.Hub, agent, backend *link.Link) {
					time.Sleep(time.Second) // the first measurement of the round trip
					o, a := stream(t, agent, backend)
					if both {
						_ = a.CloseWrite()
					}
					go func() { // ends when the stream's other end is closed, at the latest
						_, _ = o.Write(make([]byte, 20<<20))
						_ = o.CloseWrite()
					}()
					if _, err := io.CopyN(io.Discard, a, 19<<20); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second) // the rest and the end have come
					if n := hub.Stats().Window; n < 1<<20 {
						t.Errorf("1 MiB is unread, and %d bytes of the budget are used", n)
					}
					c.end(a)
					synctest.Wait()
					if n := hub.Stats().Window; n != 0 {
						t.Errorf("%d bytes of the budget are used by nobody", n)
					}
				})
			}
		})
	}
}

// A goodbye is not behind everything that is being written.
func TestGoodbyeBesideWriters(t *testing.T) {
	slow := func(conn net.Conn) net.Conn { return newFarConn(conn, time.Millisecond, 10e6) }
	inMemory(t, link.Options{}, slow, func(t *testing.T, _ *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
		for range 8 {
			o, a := stream(t, agent, backend)
			go func() { // ends with the link
				for b, err := make([]byte, 32<<10), error(nil); err == nil; _, err = o.Write(b) {
				}
			}()
			go func() { _, _ = io.Copy(io.Discard, a) }() // ends with the link
		}
		time.Sleep(time.Second)
		_ = agent.Close()
		<-backend.Done()
		if err := backend.Err(); !errors.Is(err, link.ErrClosed) {
			t.Errorf("the peer was told nothing: %v", err)
		}
	})
}

// Whoever connects and says nothing, or one byte a second, is cut after five seconds.
func TestSlowHandshakes(t *testing.T) {
	inMemory(t, link.Options{}, nil, func(t *testing.T, way *linktest.Network, hub *link.Hub, _, _ *link.Link) {
		const upgrade = "GET /agent HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: link2.sockerless\r\n\r\n"
		for _, slow := range []bool{false, true} {
			conn, err := way.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, upgrade); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			var drip sync.WaitGroup
			if slow {
				drip.Go(func() { // ends with the connection
					for _, err := conn.Write([]byte{0x82}); err == nil; _, err = conn.Write([]byte{0xff}) {
						time.Sleep(time.Second)
					}
				})
			}
			_, _ = io.Copy(io.Discard, conn)
			if took := time.Since(begin); took > 6*time.Second {
				t.Errorf("slow %t: cut after %v", slow, took)
			}
			_ = conn.Close()
			drip.Wait()
		}
		synctest.Wait()
		if st := hub.Stats(); st.Failed != 2 || st.Handshakes != 0 {
			t.Errorf("counted as %+v", st)
		}
	})
}
