package remote_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/link/linktest"
	"github.com/sockerless/sockerless/remote"
)

// A request may be cut in the middle of its headers, for minutes, and is answered when the link is back.
func TestRequestCutInItsHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(time.Minute) // what is on its way in the network arrives
		token := remote.Token(bytes.Repeat([]byte{7}, 32))
		backend := remote.NewServer(&sockerless.Backend{Images: &oneImage{}}, remote.ServerOptions{Token: token})
		way := linktest.NewNetwork(nil)
		server := &http.Server{Handler: backend}
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(way) })
		defer served.Wait()
		defer server.Close()
		defer backend.Close()
		l, err := link.Dial(t.Context(), link.Target{URL: "http://backend" + remote.LinkPath, NetDial: way.Dial},
			link.Identity{Role: link.Frontend, ID: "frontend", Secret: token[:]}, link.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s, err := l.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		body := `{"Ref":"shell"}`
		request := "POST /v1/images/find HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n" + body
		if _, err := io.WriteString(s, request[:20]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		way.Set(true)
		time.Sleep(link.ResumeWindow - 10*time.Second)
		way.Set(false)
		if _, err := io.WriteString(s, request[20:]); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(answer), "shell") {
			t.Errorf("%s %s, %v", resp.Status, answer, err)
		}
	})
}
