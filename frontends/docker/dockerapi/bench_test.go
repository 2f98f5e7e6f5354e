package dockerapi_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sockerless/sockerless/frontends/docker/dockerapi"
)

// BenchmarkAPI measures this package alone: the memory behind it costs next to nothing.
func BenchmarkAPI(b *testing.B) {
	m := newMemory(b)
	h := dockerapi.New(m.backend(), dockerapi.Options{})
	s := httptest.NewServer(h)
	defer s.Close()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("tcp", s.Listener.Addr().String())
	}}
	defer tr.CloseIdleConnections()
	ask := func(b *testing.B, method, path, body string, want int) {
		req, err := http.NewRequestWithContext(b.Context(), method, s.URL+path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
			b.Fatalf("%d, %v", resp.StatusCode, err)
		}
	}
	for i := range 1000 {
		ask(b, "POST", "/containers/create?name=box"+strconv.Itoa(i), `{"Image":"busybox","Cmd":["sh","-c","echo hello"],"Labels":{"a":"b"},"Future":1}`, 201)
	}
	b.Run("ping", func(b *testing.B) {
		for b.Loop() {
			ask(b, "GET", "/_ping", "", 200)
		}
	})
	b.Run("inspect", func(b *testing.B) {
		for b.Loop() {
			ask(b, "GET", "/containers/box500/json", "", 200)
		}
	})
	b.Run("list of 1000", func(b *testing.B) {
		for b.Loop() {
			ask(b, "GET", "/containers/json?all=1", "", 200)
		}
	})
}
