package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/engine/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_WRITER"); path != "" {
		writeAndDie(path)
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T) *store.Bolt {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "state.db")
		return func(t *testing.T) store.Store {
			s, err := store.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := store.Open(path); !errors.Is(err, store.ErrInUse) {
		t.Errorf("second open: %v", err)
	}
}

func TestClosedRefusesWrites(t *testing.T) {
	s := open(t)
	s.Close()
	if _, err := s.Put(t.Context(), "t", store.Item{Key: "k"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
}

// TestKill9 kills a process that writes as fast as it can, and finds every write that it had been told was done.
func TestKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told []string
	buf := make([]byte, 4096)
	text := ""
	for strings.Count(text, "\n") < 50 {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		text += string(buf[:n])
	}
	cmd.Process.Kill()
	cmd.Wait()
	lines := strings.Split(text, "\n")
	told = lines[:len(lines)-1] // the last one may be cut
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, key := range told {
		if _, err := s.Get(t.Context(), "t", key); err != nil {
			t.Errorf("%s was done and is lost: %v", key, err)
		}
	}
}

func writeAndDie(path string) {
	s, err := store.Open(path)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("%08d", i)
		if _, err := s.Put(context.Background(), "t", store.Item{Key: key, Value: make([]byte, 2000)}); err != nil {
			panic(err)
		}
		fmt.Println(key)
	}
}
