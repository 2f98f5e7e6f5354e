//go:build unix

package link_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// cpu is the process's CPU time: both ends of every benchmark here run in it.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tlsPair is the limit: TLS 1.3 over TCP on loopback.
func tlsPair(b *testing.B) (client, server net.Conn) {
	b.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	conf := s.TLS.Clone()
	conf.NextProtos, conf.DynamicRecordSizingDisabled = nil, true
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() { // ends after one connection
		c, err := l.Accept()
		if err == nil {
			err = c.(*tls.Conn).Handshake()
		}
		if err != nil {
			b.Error(err)
		}
		accepted <- c
	}()
	client, err = tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}) //nolint:gosec // a benchmark
	if err != nil {
		b.Fatal(err)
	}
	server = <-accepted
	b.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

// ends gives the two ends of what is measured.
var ends = []struct {
	name string
	open func(b *testing.B) (agent, backend net.Conn)
}{
	{"raw TLS", tlsPair},
	{"link", func(b *testing.B) (net.Conn, net.Conn) {
		agent, backend := newRig(b, link.Options{}, nil).link()
		o, a := stream(b, backend, agent)
		return a, o
	}},
}

func BenchmarkLinkBulk(b *testing.B) {
	for _, e := range ends {
		for _, up := range []bool{false, true} {
			name := e.name + " from the dialler"
			if up {
				name = e.name + " to the dialler"
			}
			b.Run(name, func(b *testing.B) {
				from, to := e.open(b)
				if up {
					from, to = to, from
				}
				const piece = 64 << 10
				b.SetBytes(piece)
				done := make(chan struct{})
				go func() { // ends when everything has come
					defer close(done)
					buf := make([]byte, piece)
					for left := b.N * piece; left > 0; {
						n, err := to.Read(buf)
						if err != nil {
							b.Error(err)
							return
						}
						left -= n
					}
				}()
				buf := make([]byte, piece)
				before := cpu()
				b.ResetTimer()
				for range b.N {
					if _, err := from.Write(buf); err != nil {
						b.Fatal(err)
					}
				}
				<-done
				b.StopTimer()
				b.ReportMetric(float64(cpu()-before)/float64(b.N)/piece, "cpu-s/GB")
			})
		}
	}
}

func BenchmarkLinkRoundTrip(b *testing.B) {
	for _, e := range ends {
		b.Run(e.name, func(b *testing.B) {
			far, near := e.open(b)
			go func() { _, _ = io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{far}, make([]byte, 1)) }() // ends with the connection
			b.ResetTimer()
			reportTimes(b, pings(b, near, b.N))
		})
	}
}

// One byte to and fro while another stream of the link is busy, on loopback and on a path with
// 30 ms round trip and 20 MB/s.
func BenchmarkLinkRoundTripUnderBulk(b *testing.B) {
	slow := func(conn net.Conn) net.Conn { return newFarConn(conn, 15*time.Millisecond, 20<<20) }
	for _, c := range []struct {
		name string
		wrap func(net.Conn) net.Conn
		up   bool
	}{
		{"loopback from the dialler", nil, false},
		{"loopback to the dialler", nil, true},
		{"30 ms and 20 MB per s from the dialler", slow, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			agent, backend := newRig(b, link.Options{}, c.wrap).link()
			from, to := agent, backend
			if c.up {
				from, to = to, from
			}
			bulk, sink := stream(b, from, to)
			near, far := stream(b, backend, agent)
			var wait sync.WaitGroup
			wait.Go(func() { _, _ = io.Copy(io.Discard, sink) })
			wait.Go(func() {
				for buf := make([]byte, 64<<10); ; {
					if _, err := bulk.Write(buf); err != nil {
						return
					}
				}
			})
			wait.Go(func() { _, _ = io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{far}, make([]byte, 1)) })
			time.Sleep(time.Second) // the windows have grown
			b.ResetTimer()
			times := pings(b, near, b.N)
			b.StopTimer()
			reportTimes(b, times)
			_ = bulk.Reset()
			_ = far.Reset()
			wait.Wait()
		})
	}
}

func pings(b *testing.B, conn net.Conn, n int) []time.Duration {
	times := make([]time.Duration, 0, n)
	buf := make([]byte, 1)
	for range n {
		begin := time.Now()
		if _, err := conn.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
	}
	return times
}

func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2])/1e3, "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100])/1e3, "p99-us")
}

// One stream over a path with 30 ms round trip: the windows must grow.
func BenchmarkLinkFarAway(b *testing.B) {
	const oneWay = 15 * time.Millisecond
	for _, up := range []bool{false, true} {
		name := "from the dialler"
		if up {
			name = "to the dialler"
		}
		b.Run(name, func(b *testing.B) {
			r := newRig(b, link.Options{}, func(conn net.Conn) net.Conn { return newFarConn(conn, oneWay, 0) })
			agent, backend := r.link()
			time.Sleep(4 * oneWay) // the first measurement of the round trip
			from, to := agent, backend
			if up {
				from, to = to, from
			}
			o, a := stream(b, from, to)
			const size = 64 << 20
			b.SetBytes(size)
			b.ResetTimer()
			go func() { // ends when everything is written, or with the link
				buf := make([]byte, 64<<10)
				for range b.N * (size / len(buf)) {
					if _, err := o.Write(buf); err != nil {
						return
					}
				}
				_ = o.CloseWrite()
			}()
			if n, err := io.Copy(io.Discard, a); err != nil || n != int64(b.N)*size {
				b.Fatalf("%d bytes, %v", n, err)
			}
		})
	}
}

// What an idle link costs both ends together; the hub's part is about half of it.
func BenchmarkLinkIdle(b *testing.B) {
	const links = 500
	for range b.N {
		r := newRig(b, link.Options{}, nil)
		memory := func() (uint64, int) {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapInuse + m.StackInuse, runtime.NumGoroutine()
		}
		before, routines := memory()
		var all []*link.Link
		for i := range links {
			r.id.ID = fmt.Sprintf("run-%d", i)
			agent, _ := r.link()
			all = append(all, agent)
		}
		time.Sleep(time.Second)
		after, more := memory()
		b.ReportMetric(float64(after-before)/links/1024, "KiB/link")
		b.ReportMetric(float64(more-routines)/links, "goroutines/link")
		_ = r.hub.Close()
		for _, l := range all {
			_ = l.Close()
		}
	}
}

// What a new link costs: connect, upgrade, TLS, proof, goodbye.
func BenchmarkLinkDial(b *testing.B) {
	r := newRig(b, link.Options{}, nil)
	for range b.N {
		l, err := link.Dial(context.Background(), r.target, r.id, r.opt)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.hub.Accept(context.Background()); err != nil {
			b.Fatal(err)
		}
		_ = l.Close()
	}
}

// A cut and what it takes until the next byte has passed.
func BenchmarkLinkResume(b *testing.B) {
	agent, backend := newRig(b, link.Options{}, nil).link()
	near, far := stream(b, backend, agent)
	go func() { _, _ = io.Copy(far, far) }() // ends with the stream
	b.ResetTimer()
	for range b.N {
		agent.Cut()
		pings(b, near, 1)
	}
}
