package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/sockerless/sockerless/engine/store"
)

// shelf keeps the records of one kind in memory, and shows a change once the store has it.
type shelf[T any] struct {
	store store.Store
	table string

	// change is held by whoever changes records, from looking at them until the store has them. Readers take mu only.
	change sync.Mutex

	mu    sync.RWMutex
	items map[string]shelved[T]
}

type shelved[T any] struct {
	value   T
	version string
}

func openShelf[T any](ctx context.Context, st store.Store, table string) (*shelf[T], error) {
	s := &shelf[T]{store: st, table: table, items: map[string]shelved[T]{}}
	for item, err := range st.List(ctx, table) {
		if err != nil {
			return nil, err
		}
		v := shelved[T]{version: item.Version}
		if err := json.Unmarshal(item.Value, &v.value); err != nil {
			return nil, fmt.Errorf("cannot read %s of %s: %w", item.Key, table, err)
		}
		s.items[item.Key] = v
	}
	return s, nil
}

// put stores a record. s.change is held.
func (s *shelf[T]) put(ctx context.Context, key string, value T) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot store %s in %s: %w", key, s.table, err)
	}
	s.mu.RLock()
	old := s.items[key]
	s.mu.RUnlock()
	// A write that is given up half way leaves open what is stored.
	item, err := s.store.Put(context.WithoutCancel(ctx), s.table, store.Item{Key: key, Value: b, Version: old.version})
	if err != nil {
		return fmt.Errorf("cannot store %s in %s: %w", key, s.table, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[key] = shelved[T]{value, item.Version}
	return nil
}

// delete forgets a record. s.change is held.
func (s *shelf[T]) delete(ctx context.Context, key string) error {
	s.mu.RLock()
	old := s.items[key]
	s.mu.RUnlock()
	if err := s.store.Delete(context.WithoutCancel(ctx), s.table, key, old.version); err != nil {
		return fmt.Errorf("cannot delete %s from %s: %w", key, s.table, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, key)
	return nil
}

// get returns one record, which must not be changed.
func (s *shelf[T]) get(key string) (T, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.items[key]
	return v.value, ok
}

// all returns the records, which must not be changed, in no order.
func (s *shelf[T]) all() []T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]T, 0, len(s.items))
	for _, v := range s.items {
		out = append(out, v.value)
	}
	return out
}
