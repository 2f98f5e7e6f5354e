package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sockerless/sockerless/azuresim/minibox"
)

// hub is a Docker Hub that has alpine alone, which is minibox.
type hub struct {
	server    *http.Server
	authority []byte // PEM of its certificate, for those who are to trust it
}

const hubName = "index.docker.io" // Docker Hub's

// startHub serves it at its own name; file is minibox.
func startHub(file string) (*hub, error) {
	named, err := registry.TLS(hubName) // on a port of loopback: here it makes the certificate, which lasts for an hour
	if err != nil {
		return nil, err
	}
	named.Close()
	l, err := net.Listen("tcp", hubName+":443") // of this network alone, and no loopback: replicas look the name up too
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	h := &hub{server: &http.Server{Handler: registry.New(registry.Logger(quiet)), ErrorLog: quiet},
		authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: named.Certificate().Raw})}
	go h.server.Serve(tls.NewListener(l, named.TLS)) // ends with close
	if err := h.push(file); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *hub) push(file string) error {
	image, err := minibox.Image(file)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(hubName + "/library/alpine:latest")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(h.authority)
	return remote.Write(tag, image, remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}))
}

func (h *hub) close() { h.server.Close() }
