package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sockerless/sockerless/wire"
)

func TestSession(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		done := make(chan error, 1)
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleSession(m, "/s", func(_ context.Context, in string, accept func() (*wire.Conn, error)) error {
				if in == "refuse" {
					return coded{errors.New("not running")}
				}
				if in == "forget" {
					return nil
				}
				conn, err := accept()
				if err != nil {
					return err
				}
				switch in {
				case "echo until the end":
					// The peer's half-close leaves this direction open.
					b, err := io.ReadAll(conn)
					if err == nil {
						_, err = conn.Write(append([]byte("got "), b...))
					}
					done <- err
				case "half-close first":
					conn.Write([]byte("bye"))
					conn.CloseWrite()
					_, err := io.ReadAll(conn) // what comes after it is still read
					done <- err
				case "reset":
					conn.Reset()
				}
				return nil
			})
		})
		s, err := c.Session(t.Context(), "/s", "echo until the end")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(s, "hello")
		s.CloseWrite()
		if b, err := io.ReadAll(s); string(b) != "got hello" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}

		s, err = c.Session(t.Context(), "/s", "half-close first")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := io.WriteString(s, "still here"); err != nil {
			t.Errorf("after the other end's half-close: %v", err)
		}
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}

		if _, err := c.Session(t.Context(), "/s", "refuse"); !hasCode(err, "conflict", "not running") {
			t.Errorf("a refusal: %v", err)
		}
		if _, err := c.Session(t.Context(), "/s", "forget"); err == nil || !strings.Contains(err.Error(), "was not accepted") {
			t.Errorf("no decision: %v", err)
		}
		if network == "tcp" {
			s, err = c.Session(t.Context(), "/s", "reset")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(s); err == nil {
				t.Error("a reset looks like an end")
			}
			s.Close()
		}
	})
}

// TestSessionContext: ctx bounds the opening and no more.
func TestSessionContext(t *testing.T) {
	entered := make(chan bool, 1)
	c := serve(t, "unix", func(m *http.ServeMux) {
		wire.HandleSession(m, "/s", func(ctx context.Context, hang bool, accept func() (*wire.Conn, error)) error {
			if hang {
				entered <- true
				<-ctx.Done()
				return ctx.Err()
			}
			conn, err := accept()
			if err != nil {
				return err
			}
			_, err = io.Copy(conn, conn)
			return err
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Session(ctx, "/s", false)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	io.WriteString(s, "x")
	s.CloseWrite()
	if b, err := io.ReadAll(s); string(b) != "x" || err != nil {
		t.Errorf("after the end of ctx: %q, %v", b, err)
	}
	s.Close()
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := c.Session(ctx, "/s", true); !errors.Is(err, context.Canceled) {
		t.Errorf("while it opens: %v", err)
	}
}

// TestReadAhead: bytes that came with the headers are not lost.
func TestReadAhead(t *testing.T) {
	c := serve(t, "tcp", func(m *http.ServeMux) {
		wire.HandleSession(m, "/s", func(_ context.Context, _ struct{}, accept func() (*wire.Conn, error)) error {
			conn, err := accept()
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte("at once"))
			return err
		})
	})
	for range 50 {
		s, err := c.Session(t.Context(), "/s", nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); string(b) != "at once" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		s.Close()
	}
}

// ends returns the two ends of a socket.
func ends(t testing.TB, network string) (a, b wire.HalfCloser) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(shortDir(t), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	if _, ok := t.(*testing.T); ok { // so that what stands still fails
		x.SetDeadline(time.Now().Add(2 * time.Minute))
	}
	return x.(wire.HalfCloser), y.(wire.HalfCloser)
}

// spliced starts a Splice between two sockets and returns their outer ends and its result.
func spliced(t testing.TB, clientNet, processNet string) (client, process wire.HalfCloser, result chan error) {
	client, inner := ends(t, clientNet)
	process, other := ends(t, processNet)
	result = make(chan error, 1)
	go func() {
		result <- wire.Splice(wire.NewConn(inner.(net.Conn), nil), wire.NewConn(other.(net.Conn), nil))
	}() // ends with the sockets
	return client, process, result
}

func TestSplice(t *testing.T) {
	for _, clientNet := range networks {
		for _, processNet := range networks {
			t.Run(clientNet+" to "+processNet, func(t *testing.T) {
				t.Run("half-closes pass", func(t *testing.T) {
					client, process, result := spliced(t, clientNet, processNet)
					go func() { io.Copy(client, io.LimitReader(zeros{}, 5<<20)); client.CloseWrite() }()
					if n, err := io.Copy(io.Discard, process); n != 5<<20 || err != nil {
						t.Fatalf("input: %d, %v", n, err)
					}
					go func() { io.Copy(process, io.LimitReader(zeros{}, 5<<20)); process.CloseWrite() }()
					if n, err := io.Copy(io.Discard, client); n != 5<<20 || err != nil {
						t.Fatalf("output: %d, %v", n, err)
					}
					if err := <-result; err != nil {
						t.Error(err)
					}
				})
				t.Run("a process that does not read loses no output", func(t *testing.T) {
					client, process, result := spliced(t, clientNet, processNet)
					written := make(chan bool)
					go func() { // `yes | docker run -i`: ends when the client's side is closed
						defer close(written)
						io.Copy(client, zeros{})
					}()
					time.Sleep(20 * time.Millisecond)
					output := bytes.Repeat([]byte("output"), 10000)
					go func() { process.Write(output); process.CloseWrite() }() // ends with the write
					b, err := io.ReadAll(client)
					if !bytes.Equal(b, output) || err != nil {
						t.Errorf("%d bytes of %d, %v", len(b), len(output), err)
					}
					client.Close()
					process.Close()
					<-written
					if err := <-result; err != nil {
						t.Error(err)
					}
				})
				t.Run("an output that is cut is no end", func(t *testing.T) {
					if clientNet != "tcp" || processNet != "tcp" {
						t.Skip("a unix socket knows no reset")
					}
					client, process, result := spliced(t, clientNet, processNet)
					if _, err := process.Write([]byte("half of it")); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(client, make([]byte, len("half of it"))); err != nil {
						t.Fatal(err)
					}
					process.(*net.TCPConn).SetLinger(0)
					process.Close()
					if b, err := io.ReadAll(client); err == nil {
						t.Errorf("it ends well, with %q", b)
					}
					client.Close()
					if err := <-result; err == nil {
						t.Error("Splice says that the client got all")
					}
				})
				t.Run("a client that vanishes ends it", func(t *testing.T) {
					client, process, result := spliced(t, clientNet, processNet)
					if tcp, ok := client.(*net.TCPConn); ok {
						tcp.SetLinger(0)
					}
					client.Close()
					go func() { // a process that writes on: ends when its side is closed
						for {
							if _, err := process.Write([]byte("x")); err != nil {
								return
							}
							time.Sleep(time.Millisecond)
						}
					}()
					select {
					case <-result:
					case <-time.After(time.Minute):
						t.Error("it goes on")
					}
					process.Close()
				})
			})
		}
	}
}

// TestSpliceLingers: a client that never closes its side is left after a while.
func TestSpliceLingers(t *testing.T) {
	t.Parallel()
	client, process, result := spliced(t, "unix", "unix")
	began := time.Now()
	process.CloseWrite()
	if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	select {
	case err := <-result:
		if took := time.Since(began); err != nil || took < 4*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

// TestSilentClientGone: a client that has half-closed stays, however silent the process is; one that has gone does not.
func TestSilentClientGone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a half-close from a close")
	}
	t.Parallel()
	client, process, result := spliced(t, "unix", "tcp")
	client.CloseWrite()
	if b, err := io.ReadAll(process); len(b) > 0 || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	select {
	case err := <-result:
		t.Fatalf("it ended on a half-close: %v", err)
	case <-time.After(4 * time.Second):
	}
	client.Close()
	select {
	case <-result:
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	process.(net.Conn).SetWriteDeadline(time.Now().Add(time.Minute))
	for {
		if _, err := process.Write([]byte("x")); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the process's side does not learn of it")
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func BenchmarkSplice(b *testing.B) {
	for _, clientNet := range networks {
		for _, processNet := range networks {
			for _, way := range []string{"output", "input"} {
				b.Run(way+"/"+clientNet+" to "+processNet, func(b *testing.B) {
					client, process, result := spliced(b, clientNet, processNet)
					from, to := process, client
					if way == "input" {
						from, to = client, process
					}
					const piece = 1 << 20
					b.SetBytes(piece)
					buf := make([]byte, piece)
					go func() { // ends when from is closed
						for {
							if _, err := from.Write(buf[:64<<10]); err != nil {
								return
							}
						}
					}()
					in := make([]byte, piece)
					b.ResetTimer()
					for range b.N {
						if _, err := io.ReadFull(to, in); err != nil {
							b.Fatal(err)
						}
					}
					b.StopTimer()
					client.Close()
					process.Close()
					<-result
				})
			}
		}
	}
}

// TestSessionWithLongArguments: more than a header holds goes in the body, and the session's bytes are apart from it.
func TestSessionWithLongArguments(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleSession(m, "/s", func(_ context.Context, in []string, accept func() (*wire.Conn, error)) error {
				if len(in) == 1 {
					return coded{errors.New("not running")}
				}
				conn, err := accept()
				if err != nil {
					return err
				}
				b, err := io.ReadAll(conn)
				if err == nil {
					_, err = conn.Write([]byte(strings.Join(in, "")[:3] + string(b)))
				}
				return err
			})
		})
		for _, size := range []int{1 << 10, 300 << 10, 600 << 10, 4 << 20} {
			s, err := c.Session(t.Context(), "/s", []string{strings.Repeat("a", size/2), strings.Repeat("<", size/12)})
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			io.WriteString(s, "hello")
			s.CloseWrite()
			if b, err := io.ReadAll(s); string(b) != "aaahello" || err != nil {
				t.Errorf("%d bytes: %q, %v", size, b, err)
			}
			s.Close()
			_, err = c.Session(t.Context(), "/s", []string{strings.Repeat("a", size)})
			var refusal *wire.Error
			if !errors.As(err, &refusal) || refusal.Message != "not running" {
				t.Errorf("%d bytes, refused: %v", size, err)
			}
		}
		if _, err := c.Session(t.Context(), "/s", strings.Repeat("a", wire.MaxMessage+1)); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("too much: %v", err)
		}
	})
}
