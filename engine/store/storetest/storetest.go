// Package storetest holds the obligations of every store.Store.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sockerless/sockerless/engine/store"
)

// Open opens a store on the test's place; a place is new for every test, and opened again after a Close.
type Open func(*testing.T) store.Store

// Run tests the stores of an implementation. place makes a new, empty place.
func Run(t *testing.T, place func(*testing.T) Open) {
	for _, one := range []struct {
		name string
		f    func(*testing.T, Open)
	}{
		{"a write compares versions", compares},
		{"a list is in the order of keys", ordered},
		{"tables do not mix", apart},
		{"any key and any value come back", bytesBack},
		{"what is written outlives the store", durable},
		{"of writers at the same time one wins", race},
		{"many writes at once are all done", crowd},
		{"a closed store refuses", closed},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.f(t, place(t))
		})
	}
}

func opened(t *testing.T, open Open) store.Store {
	t.Helper()
	s := open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("cannot close: %v", err)
		}
	})
	return s
}

// put writes what must be writable.
func put(t *testing.T, s store.Store, table, key, value, version string) store.Item {
	t.Helper()
	item, err := s.Put(t.Context(), table, store.Item{Key: key, Value: []byte(value), Version: version})
	if err != nil {
		t.Fatal(err)
	}
	if item.Key != key || string(item.Value) != value || item.Version == "" || item.Version == version {
		t.Fatalf("put of %s returned %+v", key, item)
	}
	return item
}

func compares(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	if _, err := s.Get(ctx, "t", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get of what is not there: %v", err)
	}
	first := put(t, s, "t", "k", "one", "")
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("again")})
	refused("put of a new item over an old one", err)
	second := put(t, s, "t", "k", "two", first.Version)
	_, err = s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("late"), Version: first.Version})
	refused("put with an old version", err)
	refused("delete with an old version", s.Delete(ctx, "t", "k", first.Version))
	refused("delete without a version", s.Delete(ctx, "t", "k", ""))
	if got, err := s.Get(ctx, "t", "k"); err != nil || string(got.Value) != "two" || got.Version != second.Version {
		t.Errorf("got %q version %s (%v), want \"two\" version %s", got.Value, got.Version, err, second.Version)
	}
	if err := s.Delete(ctx, "t", "k", second.Version); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "t", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
	for _, version := range []string{"", second.Version} {
		if err := s.Delete(ctx, "t", "k", version); err != nil {
			t.Errorf("delete of what is not there, version %q: %v", version, err)
		}
	}
	_, err = s.Put(ctx, "t", store.Item{Key: "k", Value: []byte("ghost"), Version: second.Version})
	refused("put of a version that was deleted", err)
	third := put(t, s, "t", "k", "three", "")
	if third.Version == first.Version || third.Version == second.Version {
		t.Errorf("an item made again has version %s, as it had before", third.Version)
	}
}

func list(t *testing.T, s store.Store, table string) (keys []string) {
	t.Helper()
	for item, err := range s.List(t.Context(), table) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, item.Key)
		if len(keys)%10 != 1 {
			continue // some of many will do
		}
		got, err := s.Get(t.Context(), table, item.Key)
		if err != nil || got.Version != item.Version || !bytes.Equal(got.Value, item.Value) {
			t.Errorf("%s is listed as %q version %s, and got as %q version %s (%v)", item.Key, item.Value, item.Version, got.Value, got.Version, err)
		}
	}
	return keys
}

func ordered(t *testing.T, open Open) {
	s := opened(t, open)
	if keys := list(t, s, "none"); keys != nil {
		t.Errorf("a table that is not there has %q", keys)
	}
	var want []string
	for _, key := range []string{"b", "a/b", "a", "B", "a.b", "a b", "ä", "10", "9", "a-b", "a=b", "ab"} {
		put(t, s, "t", key, key, "")
		want = append(want, key)
	}
	slices.Sort(want)
	if got := list(t, s, "t"); !slices.Equal(got, want) {
		t.Errorf("the list is %q, want %q", got, want)
	}
	for item, err := range s.List(t.Context(), "t") {
		if err != nil || item.Key != want[0] {
			t.Errorf("the first is %q (%v)", item.Key, err)
		}
		put(t, s, "t", item.Key, "changed in the loop", item.Version) // a loop holds up no write
		break
	}
}

func apart(t *testing.T, open Open) {
	s := opened(t, open)
	for _, table := range []string{"image", "images", "image-refs"} {
		put(t, s, table, "k", table, "")
		put(t, s, table, "s|k", table, "")
	}
	for _, table := range []string{"image", "images", "image-refs"} {
		if got, err := s.Get(t.Context(), table, "k"); err != nil || string(got.Value) != table {
			t.Errorf("%s has %q (%v)", table, got.Value, err)
		}
		if got := list(t, s, table); !slices.Equal(got, []string{"k", "s|k"}) {
			t.Errorf("%s lists %q", table, got)
		}
	}
}

func bytesBack(t *testing.T, open Open) {
	s := opened(t, open)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	keys := []string{
		"docker.io/library/alpine@sha256:" + strings.Repeat("0a", 32), "localhost:5000/x:1.0_a", `a/b\c#d?e`, "it's", "tab\tnew\nline",
		"%2F%", "plus+plus", "a|b", "=3D", "日本語", "..", ".", " ", "$batch", "()", string(all[1:128]), strings.Repeat("k", 300),
	}
	values := map[string][]byte{}
	for i, key := range keys {
		value := bytes.Repeat(all, []int{0, 1, 255, 256, 257, 300}[i%6])
		values[key] = value
		if _, err := s.Put(t.Context(), "t", store.Item{Key: key, Value: value}); err != nil {
			t.Fatalf("put of key %q with %d bytes: %v", key, len(value), err)
		}
	}
	for key, value := range values {
		if got, err := s.Get(t.Context(), "t", key); err != nil || got.Key != key || !bytes.Equal(got.Value, value) {
			t.Errorf("key %q with %d bytes came back as %q with %d (%v)", key, len(value), got.Key, len(got.Value), err)
		}
	}
	if got := list(t, s, "t"); len(got) != len(keys) {
		t.Errorf("%d items are listed, want %d", len(got), len(keys))
	}
	// A value that becomes shorter leaves nothing of the old one.
	long, err := s.Put(t.Context(), "t", store.Item{Key: "shrinks", Value: bytes.Repeat(all, 300)})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "t", "shrinks", "short", long.Version)
	if got, err := s.Get(t.Context(), "t", "shrinks"); err != nil || string(got.Value) != "short" {
		t.Errorf("a value that shrank is %d bytes (%v)", len(got.Value), err)
	}
}

func durable(t *testing.T, open Open) {
	s := open(t)
	first := put(t, s, "t", "k", "one", "")
	gone := put(t, s, "t", "gone", "", "")
	if err := s.Delete(t.Context(), "t", "gone", gone.Version); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, open)
	if got := list(t, s, "t"); !slices.Equal(got, []string{"k"}) {
		t.Errorf("opened again, the store has %q", got)
	}
	put(t, s, "t", "k", "two", first.Version)
}

func race(t *testing.T, open Open) {
	s := opened(t, open)
	version := ""
	for round := range 5 {
		var (
			wg  sync.WaitGroup
			mu  sync.Mutex
			won []store.Item
		)
		for i := range 8 {
			wg.Go(func() {
				item, err := s.Put(t.Context(), "t", store.Item{Key: "k", Value: fmt.Append(nil, round, i), Version: version})
				if err != nil && !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					won = append(won, item)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d of 8 writers won", len(won))
		}
		if got, err := s.Get(t.Context(), "t", "k"); err != nil || !bytes.Equal(got.Value, won[0].Value) || got.Version != won[0].Version {
			t.Fatalf("the store has %q version %s, the winner wrote %q version %s (%v)", got.Value, got.Version, won[0].Value, won[0].Version, err)
		}
		version = won[0].Version
	}
}

func crowd(t *testing.T, open Open) {
	s := opened(t, open)
	const n = 100
	put(t, s, "t", "taken", "", "")
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			item, err := s.Put(t.Context(), "t", store.Item{Key: fmt.Sprintf("%03d", i), Value: make([]byte, 8_000)})
			if err == nil && i%2 == 1 {
				err = s.Delete(t.Context(), "t", item.Key, item.Version)
			}
			if err != nil {
				t.Error(err)
			}
		})
		if i%30 == 0 { // one that is refused harms none beside it
			wg.Go(func() {
				if _, err := s.Put(t.Context(), "t", store.Item{Key: "taken"}); !errors.Is(err, store.ErrConflict) {
					t.Errorf("put of a new item over an old one: %v", err)
				}
			})
		}
	}
	wg.Wait()
	if got := list(t, s, "t"); len(got) != n/2+1 {
		t.Errorf("%d items are left, want %d", len(got), n/2+1)
	}
}

func closed(t *testing.T, open Open) {
	s := open(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := s.Put(t.Context(), "t", store.Item{Key: "k"}); err == nil {
		t.Error("a closed store took a write")
	}
	if err := s.Delete(t.Context(), "t", "k", "1"); err == nil {
		t.Error("a closed store took a delete")
	}
}
