// Package store keeps what the engine must not forget: small values in tables, changed by compare-and-swap, durable
// once a write has returned. The one implementation here is bbolt's, for a local disk; the interface asks nothing that
// a shared table service could not give.
package store

import (
	"context"
	"errors"
	"iter"
)

// Store keeps items. It is safe for concurrent use.
type Store interface {
	// Get returns one item, or ErrNotFound.
	Get(ctx context.Context, table, key string) (Item, error)

	// List yields a table's items in the order of their keys. It sees one moment of the table.
	List(ctx context.Context, table string) iter.Seq2[Item, error]

	// Put writes an item and returns it with its new version. An empty item.Version says that there must be none yet,
	// any other that it must be the one stored: else ErrConflict. What Put has returned for survives a crash.
	Put(ctx context.Context, table string, item Item) (Item, error)

	// Delete removes an item if version is the one stored, else ErrConflict. Deleting what is not there is not an error.
	Delete(ctx context.Context, table, key, version string) error

	// Close releases the store.
	Close() error
}

// Item is one value. Version changes with every write and means nothing else.
type Item struct {
	Key     string
	Value   []byte
	Version string
}

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not in the store")
	ErrConflict = errors.New("changed in the store by somebody else")
)
