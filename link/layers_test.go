//go:build unix

package link

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// tcpPair is two ends of a connection on loopback.
func tcpPair(b *testing.B) (client, server net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() { // ends after one connection
		c, err := l.Accept()
		if err != nil {
			b.Error(err)
		}
		accepted <- c
	}()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	server = <-accepted
	b.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

// tlsOver is TLS 1.3 over a pair.
func tlsOver(b *testing.B, client, server net.Conn) (*tls.Conn, *tls.Conn) {
	b.Helper()
	conf, err := ephemeral()
	if err != nil {
		b.Fatal(err)
	}
	c := tls.Client(client, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	s := tls.Server(server, conf)
	shaken := make(chan error, 1)
	go func() { shaken <- s.Handshake() }() // ends with the handshake
	if err := c.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-shaken; err != nil {
		b.Fatal(err)
	}
	return c, s
}

// linked is both ends of a link on loopback.
func linked(b *testing.B) (agent, backend *Link) {
	b.Helper()
	h := NewHub(Backend, func(string) ([]byte, bool) { return goodSecret, true }, Options{MaxStreams: 16})
	s := httptest.NewServer(h)
	b.Cleanup(func() {
		_ = h.Close()
		s.Close()
	})
	agent, err := Dial(b.Context(), Target{URL: s.URL}, Identity{Role: Agent, ID: "run-1", Secret: goodSecret}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = agent.Close() })
	if backend, err = h.Accept(b.Context()); err != nil {
		b.Fatal(err)
	}
	return agent, backend
}

// carrierLayer is a carrier as the resumable stream uses it, without frames: batches of writes are one message.
type carrierLayer struct {
	*carrier
	batch [][]byte
	size  int
}

func (c *carrierLayer) Read(p []byte) (int, error) { return c.bytes.Read(p) }

func (c *carrierLayer) Write(p []byte) (int, error) {
	c.batch, c.size = append(c.batch, p), c.size+len(p)
	if c.size < batchSize {
		return len(p), nil
	}
	defer func() { c.batch, c.size = c.batch[:0], 0 }()
	return len(p), c.send(c.batch)
}

// carrierPair is both ends of a carrier with a TLS of our own.
func carrierPair(b *testing.B) (client, server *carrier) {
	b.Helper()
	conf, err := ephemeral()
	if err != nil {
		b.Fatal(err)
	}
	up := websocket.Upgrader{ReadBufferSize: readBuffer, WriteBufferSize: messageSize, WriteBufferPool: &messageBuffers}
	upgraded := make(chan *carrier, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		c := newCarrier(ws)
		if _, err := c.secure(tls.Server(c.msgs, conf)); err != nil {
			b.Error(err)
		}
		c.ready()
		upgraded <- c
	}))
	defer s.Close()
	d := websocket.Dialer{ReadBufferSize: readBuffer, WriteBufferSize: messageSize, WriteBufferPool: &messageBuffers}
	ws, resp, err := d.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err != nil {
		b.Fatal(err)
	}
	_ = resp.Body.Close()
	client = newCarrier(ws)
	if _, err := client.secure(tls.Client(client.msgs, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})); err != nil {
		b.Fatal(err)
	}
	client.ready()
	server = <-upgraded
	b.Cleanup(func() {
		client.close()
		server.close()
	})
	return client, server
}

// layers are what the CPU time of a link is spent in: each one is the one before and something more.
var layers = []struct {
	name string
	open func(b *testing.B) (from io.Writer, to io.Reader)
}{
	{"1 TCP", func(b *testing.B) (io.Writer, io.Reader) { c, s := tcpPair(b); return c, s }},
	{"2 raw TLS", func(b *testing.B) (io.Writer, io.Reader) { c, s := tcpPair(b); x, y := tlsOver(b, c, s); return x, y }},
	{"3 TLS in WebSocket", func(b *testing.B) (io.Writer, io.Reader) {
		from, to := carrierPair(b)
		return &carrierLayer{carrier: from}, &carrierLayer{carrier: to}
	}},
	{"4 resumable stream", func(b *testing.B) (io.Writer, io.Reader) {
		from, to := carrierPair(b)
		var ends [2]*resumable
		for i, c := range []*carrier{from, to} {
			ends[i] = newResumable(Options{}.withDefaults(Agent), Addr{}, Addr{})
			if err := ends[i].attach(c, 0); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { ends[i].end(ErrClosed) })
		}
		go func() { _ = ends[0].readFull(make([]byte, 1)) }() // acknowledgements; ends with the stream
		return bare{ends[0]}, bare{ends[1]}
	}},
	{"5 link", func(b *testing.B) (io.Writer, io.Reader) {
		agent, backend := linked(b)
		o, err := agent.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		a, err := backend.Accept()
		if err != nil {
			b.Fatal(err)
		}
		return o, a
	}},
}

// BenchmarkLinkLayers tells the CPU time of both ends for 64 KiB at a time, from the dialling end, layer by layer.
func BenchmarkLinkLayers(b *testing.B) {
	for _, l := range layers {
		b.Run(l.name, func(b *testing.B) {
			from, to := l.open(b)
			const piece = 64 << 10
			b.SetBytes(piece)
			done := make(chan struct{})
			total := int64(b.N) * piece
			go func() { // ends when everything has come
				defer close(done)
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(to, total-2*piece), make([]byte, piece)); err != nil {
					b.Errorf("%d bytes, %v", n, err)
				}
			}()
			buf := make([]byte, piece)
			before := cpuTime()
			b.ResetTimer()
			for range b.N {
				if _, err := from.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			<-done
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-before)/float64(total), "cpu-s/GB")
		})
	}
}

// cpuTime is the process's: both ends run in it.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
