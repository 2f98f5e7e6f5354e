package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
)

// A backend that answers is reached, whether it knows the run or not. That nobody answers, and what else may, a real job finds out
// in backends/aca/doctor.
func TestReach(t *testing.T) {
	t.Parallel()
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return nil, false }, link.Options{})
	t.Cleanup(func() { hub.Close() })
	mux := http.NewServeMux()
	mux.Handle("/agent", hub)
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	for name, c := range map[string]struct {
		url  string
		ca   []byte
		want int
	}{
		"over http":                         {plain.URL, nil, protocol.Reached},
		"over https":                        {secure.URL, authority, protocol.Reached},
		"over https, of no authority":       {secure.URL, nil, protocol.ReachUntrusted},
		"nowhere, as none is to be dialled": {"", nil, protocol.ReachSettings},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Settings{RunID: "00112233445566778899aabbccddeeff", Secret: make([]byte, 32), CA: c.ca, Proxy: directProxy}
			if c.url != "" {
				s.Callback = c.url + "/agent"
			}
			if code, err := Reach(t.Context(), s); code != c.want {
				t.Errorf("code %d (%v), want %d", code, err, c.want)
			}
		})
	}
}

func TestReachCodes(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		protocol.Reached:         link.ErrRefused,
		protocol.ReachOtherAgent: link.ErrVersion,
		protocol.ReachNoHub:      link.ErrNoHub,
		protocol.ReachNoName:     &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}},
		protocol.ReachUntrusted:  &tls.CertificateVerificationError{Err: x509.HostnameError{}},
		protocol.ReachNoAnswer:   errors.New("connection refused"),
	} {
		if got := reached(fmt.Errorf("cannot link: %w", err)); got != want {
			t.Errorf("%v is code %d, want %d", err, got, want)
		}
	}
}
