package agent

import (
	"crypto/x509"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// authorities are those of the container's image or, where that has none, as with FROM scratch, those of Mozilla's list of
// when the agent was built. Nil means the former; system is x509.SystemCertPool. Package fallback does the same by its import,
// and reads the whole list at every start of every agent.
func authorities(system func() (*x509.CertPool, error)) *x509.CertPool {
	own, err := system()
	if err == nil && !own.Equal(x509.NewCertPool()) {
		return nil
	}
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			continue // the others may do
		}
		if root.Constraint == nil {
			pool.AddCert(c)
			continue
		}
		pool.AddCertWithConstraint(c, root.Constraint)
	}
	return pool
}
