package azuresim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// authority signs the simulator's https certificates. It is the data folder's: who has that has it too.
type authority struct {
	file string // PEM of its certificate, for those who are to trust it
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	own  *tls.Certificate       // for the names of this machine
	may  func(name string) bool // which other names get one

	mu   sync.Mutex
	made map[string]*tls.Certificate // by name
}

// certificateLife is long: nobody renews what is in a data folder.
const certificateLife = 10 * 365 * 24 * time.Hour

// maxCertificates bounds what names that clients ask for can cost.
const maxCertificates = 1000

// openAuthority reads the authority of a data folder, or makes it.
func openAuthority(dir string, may func(name string) bool) (*authority, error) {
	a := &authority{file: filepath.Join(dir, "ca.pem"), may: may, made: map[string]*tls.Certificate{}}
	keyFile := filepath.Join(dir, "ca-key.pem")
	pair, err := tls.LoadX509KeyPair(a.file, keyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := a.found(keyFile); err != nil {
			return nil, fmt.Errorf("cannot make the https certificates' authority: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("cannot read the https certificates' authority: %w", err)
	default:
		var ok bool
		if a.key, ok = pair.PrivateKey.(*ecdsa.PrivateKey); !ok {
			return nil, fmt.Errorf("cannot read the https certificates' authority: the key in %s is of another kind", keyFile)
		}
		a.ca = pair.Leaf
	}
	a.own, err = a.sign("localhost", cloudName)
	return a, err
}

// found makes the authority.
func (a *authority) found(keyFile string) (err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	now := time.Now()
	serial, err := newSerial()
	if err != nil {
		return err
	}
	// The number is in the name, so that nobody takes one folder's authority for another's.
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("azuresim %x", serial.Bytes()[:4])},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return errors.Join(
		writeFile(keyFile, block("PRIVATE KEY", keyDER)),
		writeFile(a.file, block("CERTIFICATE", der)), // last: its presence says that the key is there
	)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// sign makes a certificate for names, and for this machine's addresses.
func (a *authority) sign(names ...string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, NotBefore: a.ca.NotBefore,
		NotAfter: a.ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// certificate is a tls.Config's GetCertificate.
func (a *authority) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	if len(name) > 253 || !a.may(name) {
		return a.own, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.made[name]; c != nil {
		return c, nil
	}
	c, err := a.sign(name)
	if err == nil {
		if len(a.made) >= maxCertificates {
			clear(a.made)
		}
		a.made[name] = c
	}
	return c, err
}
