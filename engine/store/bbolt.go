package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	lockWait  = 500 * time.Millisecond // a process that is just ending lets go within it
	maxCommit = 256                    // writes in one transaction
	prefix    = 8                      // bytes of version before each value
)

// ErrInUse is what Open returns for a file that another process has open.
var ErrInUse = errors.New("it is in use by another process")

// Bolt is a Store in one file on a local disk. Writes that come at the same time share one commit.
type Bolt struct {
	db     *bbolt.DB
	writes *Queue[*write]
	done   chan struct{} // closed when no commit is made any more
}

// write is one change.
type write struct {
	Pending
	table   string
	item    Item
	delete  bool
	version string // of what was written
}

// Open opens the store in the file at path, and makes it if there is none. The file must be on a local disk: a mapped
// file on a network share can end the process by SIGBUS. A file that another process has open is ErrInUse. The caller
// closes the store.
func Open(path string) (*Bolt, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot open store: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        lockWait,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true, // it is rebuilt at open; a commit then writes less
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("cannot open store %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open store %s: %w", path, err)
	}
	b := &Bolt{db: db, writes: NewQueue[*write](maxCommit), done: make(chan struct{})}
	go b.commits() // ends when Close closes b.writes
	return b, nil
}

// Get returns one item, or ErrNotFound.
func (b *Bolt) Get(ctx context.Context, table, key string) (Item, error) {
	var item Item
	err := b.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(table))
		if bucket == nil {
			return ErrNotFound
		}
		v := bucket.Get([]byte(key))
		if v == nil {
			return ErrNotFound
		}
		var err error
		item, err = decode(key, v)
		return err
	})
	if err != nil {
		return Item{}, fmt.Errorf("cannot read %s/%s: %w", table, key, err)
	}
	return item, ctx.Err()
}

// List yields a table's items in the order of their keys, as of the moment when the loop began. It reads them all
// before it yields the first, so that a slow loop holds up nobody.
func (b *Bolt) List(ctx context.Context, table string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var items []Item
		err := b.db.View(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte(table))
			if bucket == nil {
				return nil
			}
			return bucket.ForEach(func(k, v []byte) error {
				item, err := decode(string(k), v)
				items = append(items, item)
				return err
			})
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(Item{}, fmt.Errorf("cannot list %s: %w", table, err))
			return
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Put writes an item; see Store. A ctx that ends leaves it open whether the write has happened.
func (b *Bolt) Put(ctx context.Context, table string, item Item) (Item, error) {
	w := &write{Pending: NewPending(), table: table, item: item}
	if err := b.writes.Commit(ctx, w); err != nil {
		return Item{}, fmt.Errorf("cannot write %s/%s: %w", table, item.Key, err)
	}
	item.Version = w.version
	return item, nil
}

// Delete removes an item; see Store.
func (b *Bolt) Delete(ctx context.Context, table, key, version string) error {
	w := &write{Pending: NewPending(), table: table, item: Item{Key: key, Version: version}, delete: true}
	if err := b.writes.Commit(ctx, w); err != nil {
		return fmt.Errorf("cannot delete %s/%s: %w", table, key, err)
	}
	return nil
}

// Close waits for the writes that have begun and closes the file. It may be repeated.
func (b *Bolt) Close() error {
	b.writes.Close()
	<-b.done
	return b.db.Close()
}

// commits makes one transaction of all the writes that wait, again and again.
func (b *Bolt) commits() {
	defer close(b.done)
	for w := range b.writes.Waiting() {
		batch := b.writes.Fill([]*write{w}, maxCommit)
		err := b.db.Update(func(tx *bbolt.Tx) error {
			for _, w := range batch {
				if w.Err = apply(tx, w); w.Err != nil && !errors.Is(w.Err, ErrConflict) {
					return w.Err
				}
			}
			return nil
		})
		for _, w := range batch {
			if err != nil && w.Err == nil {
				w.Err = err // the transaction that it was in did not happen
			}
			w.Done()
		}
	}
}

// apply makes one change if the stored version is the expected one.
func apply(tx *bbolt.Tx, w *write) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte(w.table))
	if err != nil {
		return err
	}
	key := []byte(w.item.Key)
	stored := ""
	if v := bucket.Get(key); v != nil {
		old, err := decode(w.item.Key, v)
		if err != nil {
			return err
		}
		stored = old.Version
	}
	if w.delete && stored == "" {
		return nil
	}
	if stored != w.item.Version {
		return ErrConflict
	}
	if w.delete {
		return bucket.Delete(key)
	}
	// The table's counter and not the item's: an item that is deleted and made again must not have its old versions.
	n, err := bucket.NextSequence()
	if err != nil {
		return err
	}
	w.version = strconv.FormatUint(n, 10)
	v := make([]byte, 0, prefix+len(w.item.Value))
	v = binary.BigEndian.AppendUint64(v, n)
	return bucket.Put(key, append(v, w.item.Value...))
}

// decode copies a stored value, which is the file's own memory.
func decode(key string, v []byte) (Item, error) {
	if len(v) < prefix {
		return Item{}, fmt.Errorf("the stored value of %s is too short", key)
	}
	return Item{
		Key:     key,
		Value:   append([]byte(nil), v[prefix:]...),
		Version: strconv.FormatUint(binary.BigEndian.Uint64(v), 10),
	}, nil
}
