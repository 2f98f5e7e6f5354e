//go:build linux

package runtime

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sockerless/sockerless/azuresim"
)

// BenchmarkStart measures from Start to the container's process, with the layers cached, and where the time goes.
func BenchmarkStart(b *testing.B) {
	rt := need(b)
	run := func() (pulled, started, done, freed time.Duration) {
		start := time.Now()
		o := launch(b, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Command: []string{"true"}}}})
		<-o.Done()
		done = time.Since(start)
		<-o.Replica.(*replica).swept
		freed = time.Since(start)
		for _, e := range o.events {
			switch e.Reason {
			case "PulledImage":
				pulled = e.Time.Sub(start)
			case "ContainerStarted":
				started = e.Time.Sub(start)
			}
		}
		if code := one(b, o.Result()).ExitCode; code != 0 {
			b.Fatalf("exit code %d", code)
		}
		return
	}
	run()
	var sum [4]time.Duration
	for b.Loop() {
		pulled, started, done, freed := run()
		for i, d := range []time.Duration{pulled, started, done, freed} {
			sum[i] += d
		}
	}
	for i, unit := range []string{"ms-to-pulled", "ms-to-started", "ms-to-done", "ms-to-freed"} {
		b.ReportMetric(float64(sum[i].Microseconds())/1000/float64(b.N), unit)
	}
}

// BenchmarkBulk measures bytes from a replica to the host's loopback, and from the host into a replica.
func BenchmarkBulk(b *testing.B) {
	rt := need(b)
	const size = 512 << 20
	b.Run("out", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		launch(b, rt, sh(fmt.Sprintf("while true; do dd if=/dev/zero bs=256k count=%d iflag=fullblock status=none | nc %s %s ; done", size>>18, hostName, port)))
		b.SetBytes(size)
		buf := make([]byte, 256<<10)
		for b.Loop() {
			conn, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, buf)
			if n != size || err != nil {
				b.Fatalf("%d bytes, %v", n, err)
			}
			conn.Close()
		}
	})
	b.Run("in", func(b *testing.B) {
		o := launch(b, rt, sh("nc -l -k 9111 < /dev/null > /dev/null"))
		b.SetBytes(size)
		chunk := make([]byte, 256<<10)
		for b.Loop() {
			conn := dialUp(b, o, 9111)
			for range size / len(chunk) {
				if _, err := conn.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			conn.(interface{ CloseWrite() error }).CloseWrite()
			io.Copy(io.Discard, conn) // the end of the reader is the end of the copy
			conn.Close()
		}
	})
}
