package azuresim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keys are the secrets of one data folder. They outlive a restart, so that a backend's credentials do too.
type keys struct {
	OperatorSecret string `json:"operatorSecret"`
	OperatorHeader string `json:"operatorHeader"`
	SigningKey     string `json:"signingKey"` // PEM

	signing *rsa.PrivateKey
}

// loadKeys reads the keys of dir, or makes them.
func loadKeys(dir string) (*keys, error) {
	path := filepath.Join(dir, "keys.json")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKeys(path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the simulator's keys: %w", err)
	}
	var k keys
	if err := json.Unmarshal(raw, &k); err != nil {
		return nil, fmt.Errorf("cannot read the simulator's keys in %s: %w", path, err)
	}
	block, _ := pem.Decode([]byte(k.SigningKey))
	if block == nil {
		return nil, fmt.Errorf("cannot read the simulator's keys in %s: no PEM block", path)
	}
	if k.signing, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
		return nil, fmt.Errorf("cannot read the simulator's keys in %s: %w", path, err)
	}
	return &k, nil
}

func makeKeys(path string) (*keys, error) {
	signing, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("cannot make the simulator's keys: %w", err)
	}
	k := &keys{OperatorSecret: randomHex(20), OperatorHeader: randomHex(16), signing: signing,
		SigningKey: string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(signing)}))}
	raw, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("cannot make the simulator's keys: %w", err)
	}
	if err := writeFile(path, raw); err != nil {
		return nil, fmt.Errorf("cannot keep the simulator's keys: %w", err)
	}
	return k, nil
}

// writeFile replaces path as a whole: a killed process leaves the old content or the new one.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
