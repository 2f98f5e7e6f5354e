package remote

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Token is what a backend and its frontends share.
type Token [32]byte

// String returns the token in the form of its file: 64 hexadecimal digits.
func (t Token) String() string { return hex.EncodeToString(t[:]) }

// DefaultDataDir returns the folder in which a backend keeps its state, and in which a frontend on the same machine
// finds the token: $SOCKERLESS_DATA_DIR, else sockerless below $XDG_STATE_HOME, ~/.local/state or, on Windows,
// %LocalAppData%. It need not be there yet.
func DefaultDataDir() (string, error) {
	if dir := os.Getenv("SOCKERLESS_DATA_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	// As the XDG base directory specification wants it, a relative path counts as unset.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sockerless"), nil
	}
	if runtime.GOOS == "windows" {
		if dir := os.Getenv("LocalAppData"); dir != "" {
			return filepath.Join(dir, "sockerless"), nil
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("cannot choose a data folder, set SOCKERLESS_DATA_DIR: %w", err)
	}
	return filepath.Join(home, ".local", "state", "sockerless"), nil
}

// TokenFile returns the path of the token in a data folder.
func TokenFile(dataDir string) string { return filepath.Join(dataDir, "token") }

// CreateToken returns the token in a file, which it makes, readable by its owner only, if it is not there. Of the
// processes that share a data folder only the backend, which has locked it, may call this.
func CreateToken(path string) (Token, error) {
	t, err := ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	rand.Read(t[:]) // never fails
	return t, WriteToken(path, t)
}

// WriteToken puts a token into its file, readable by its owner only. Only the backend may call this, as with CreateToken.
func WriteToken(path string, t Token) error {
	// The name appears with the whole token behind it, so a frontend never reads half of one.
	f, err := os.CreateTemp(filepath.Dir(path), "token-*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot make a token: %w", err)
	}
	defer os.Remove(f.Name()) // it is there only if something before failed, and that is told
	_, err = f.WriteString(t.String() + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot make a token: %w", err)
	}
	return nil
}

// ReadToken reads a token's file. It is fs.ErrNotExist if there is none.
func ReadToken(path string) (Token, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Token{}, fmt.Errorf("cannot read the backend's token: %w", err)
	}
	t, ok := ParseToken(string(text))
	if !ok {
		return t, fmt.Errorf("cannot read the backend's token: %s does not hold 64 hexadecimal digits", path)
	}
	return t, nil
}

// ParseToken reads what String writes; space around it does not count.
func ParseToken(text string) (t Token, ok bool) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != len(t) {
		return t, false
	}
	return Token(b), true
}
