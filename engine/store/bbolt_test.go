package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/engine/store"
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

func TestPutComparesVersions(t *testing.T) {
	s, ctx := open(t), t.Context()
	first, err := s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("one")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("again")}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("put of a new item over an old one: %v", err)
	}
	second, err := s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("two"), Version: first.Version})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("late"), Version: first.Version}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("put with an old version: %v", err)
	}
	if err := s.Delete(ctx, "t", "k", first.Version); !errors.Is(err, store.ErrConflict) {
		t.Errorf("delete with an old version: %v", err)
	}
	if got, err := s.Get(ctx, "t", "k"); err != nil || string(got.Value) != "two" || got.Version != second.Version {
		t.Errorf("got %q version %s (%v), want \"two\" version %s", got.Value, got.Version, err, second.Version)
	}
	if err := s.Delete(ctx, "t", "k", second.Version); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "t", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
	if err := s.Delete(ctx, "t", "k", ""); err != nil {
		t.Errorf("delete of what is not there: %v", err)
	}
	third, err := s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("three")})
	if err != nil || third.Version == first.Version || third.Version == second.Version {
		t.Errorf("an item made again has version %s (%v), as it had before", third.Version, err)
	}
}

func TestListIsOrdered(t *testing.T) {
	s, ctx := open(t), t.Context()
	for range s.List(ctx, "none") {
		t.Error("a table that is not there has an item")
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, err := s.Put(ctx, "t", store.Item{Key: fmt.Sprintf("%03d", i), Value: []byte{byte(i)}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for item, err := range s.List(ctx, "t") {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%03d", n); item.Key != want || item.Value[0] != byte(n) {
			t.Fatalf("item %d is %s", n, item.Key)
		}
		n++
	}
	if n != 100 {
		t.Errorf("%d items, want 100", n)
	}
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
