package agent

import (
	"crypto/x509"
	"errors"
	"testing"
)

func TestAuthorities(t *testing.T) {
	none := x509.NewCertPool()
	ours := authorities(func() (*x509.CertPool, error) { return none, nil })
	if ours == nil || ours.Equal(none) {
		t.Fatal("where the image has no authorities, nobody is trusted")
	}
	if got := authorities(func() (*x509.CertPool, error) { return nil, errors.New("unreadable") }); got == nil || !got.Equal(ours) {
		t.Error("where the image's cannot be read, others than ours are trusted")
	}
	if authorities(func() (*x509.CertPool, error) { return ours, nil }) != nil {
		t.Error("the image's own authorities are not what counts")
	}
}
