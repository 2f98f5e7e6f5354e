package linktest

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
)

// Source is size seeded bytes, read in pieces.
type Source struct {
	seed        uint64
	size, piece int
	chacha      *rand.ChaCha8
	left        int
}

// NewSource returns a source that gives at most piece bytes to a Read.
func NewSource(seed uint64, size, piece int) *Source {
	s := &Source{seed: seed, size: size, piece: piece, left: size}
	s.chacha = s.stream()
	return s
}

func (s *Source) stream() *rand.ChaCha8 {
	var key [32]byte
	copy(key[:], strconv.FormatUint(s.seed, 10))
	return rand.NewChaCha8(key)
}

// Size is how many bytes it has in all.
func (s *Source) Size() int { return s.size }

// Read gives the next piece.
func (s *Source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), s.piece, s.left)
	_, _ = s.chacha.Read(p[:n])
	s.left -= n
	return n, nil
}

// Bytes returns all of them, whatever was read.
func (s *Source) Bytes() []byte {
	b := make([]byte, s.size)
	_, _ = s.stream().Read(b)
	return b
}

// Sum returns the sum of all of them.
func (s *Source) Sum() [32]byte { return sha256.Sum256(s.Bytes()) }

// Runs is which seeds a test is to run: LINK_SEED alone if that is set, else 1 and on, LINK_RUNS of them if that is set, else
// soak with SOCKERLESS_SOAK, else few.
func Runs(few, soak int) (first uint64, n int) {
	if seed, err := strconv.ParseUint(os.Getenv("LINK_SEED"), 10, 64); err == nil {
		first, few, soak = seed, 1, 1
	} else {
		first = 1
	}
	if n, err := strconv.Atoi(os.Getenv("LINK_RUNS")); err == nil {
		return first, n
	}
	if os.Getenv("SOCKERLESS_SOAK") != "" {
		return first, soak
	}
	return first, few
}
