package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/tablestore"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/remote"
)

// What a backend keeps of itself in a shared state, beside what the engine does.
const (
	ownTable    = "backend"
	keyItem     = "key"    // engine.Key
	tokenItem   = "token"  // remote.Token
	folderItem  = "folder" // which data folder belongs to the state
	folderIDLen = 16
)

// state is what a backend remembers, and what it proves itself with.
type state struct {
	folder *store.Bolt       // in the data folder, and its lock; the state itself unless there are tables
	tables *tablestore.Store // nil: the state is in the folder
	store  store.Store       // one of the two

	key   engine.Key
	token remote.Token
	lost  time.Time // what the data folder kept before this is not there any more; zero: it all is
}

// openFolder locks the data folder.
func (s *state) openFolder(c *Config) (err error) {
	s.folder, err = store.Open(filepath.Join(c.DataDir, "state.db"))
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("cannot use data folder %s: another backend runs on it", c.DataDir)
	}
	s.store = s.folder
	return err
}

// openTables waits for the state in a table, and takes from there what the folder has without one. ctx ends the wait.
func (s *Server) openTables(ctx context.Context, cloud *aca.Cloud) error {
	for item, err := range s.state.folder.List(ctx, "containers") {
		if err != nil {
			return err
		}
		return &aca.SettingError{Env: "SOCKERLESS_STATE", Flag: "state", Problem: fmt.Sprintf(
			"is %s, and the data folder %s has containers of its own, such as %.12s: remove them first, or use another folder", s.config.State, s.config.DataDir, item.Key)}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	tables, err := tablestore.Open(ctx, tablestore.Options{
		URL: cloud.TableURL(s.config.State), Credential: cloud.Credential(), Client: cloud.Options(), Term: s.options.Term,
		Holder: fmt.Sprintf("%s, process %d", host, os.Getpid()), Logger: s.log,
		Waiting: func(holder string) {
			s.log.Info("another backend has the state; this one answers when it has ended", "holder", holder)
		},
	})
	if err != nil {
		return fmt.Errorf("cannot use the state in %s: %w", s.config.State, err)
	}
	s.state.tables, s.state.store = tables, tables
	return nil
}

// openSecrets reads the key and the token, or makes them, where the state is. A token that is given becomes the state's.
func (s *state) openSecrets(ctx context.Context, dir, given string) (err error) {
	if token, ok := remote.ParseToken(given); ok {
		if err := s.putToken(ctx, dir, token); err != nil {
			return err
		}
	}
	if s.tables == nil {
		s.key, err = engine.LoadKey(dir)
	} else {
		s.key, err = kept(ctx, s.tables, keyItem, random(32))
	}
	if err == nil {
		err = s.openToken(ctx, dir)
	}
	if err != nil || s.tables == nil {
		return err
	}
	return s.openFolderOf(ctx)
}

// putToken puts a token where openToken finds it.
func (s *state) putToken(ctx context.Context, dir string, t remote.Token) error {
	if s.tables == nil {
		return remote.WriteToken(remote.TokenFile(dir), t)
	}
	item, err := s.tables.Get(ctx, ownTable, tokenItem)
	switch {
	case errors.Is(err, store.ErrNotFound):
		item.Key = tokenItem
	case err != nil:
		return err
	case string(item.Value) == string(t[:]):
		return nil
	}
	item.Value = t[:]
	_, err = s.tables.Put(ctx, ownTable, item)
	return err
}

// openToken reads the token, or makes it.
func (s *state) openToken(ctx context.Context, dir string) (err error) {
	if s.tables == nil {
		s.token, err = remote.CreateToken(remote.TokenFile(dir))
		return err
	}
	// A token that was put into the folder is this state's, as long as that has none.
	token, err := kept(ctx, s.tables, tokenItem, func() ([]byte, error) {
		t, err := remote.CreateToken(remote.TokenFile(dir))
		return t[:], err
	})
	if err != nil {
		return err
	}
	if len(token) != len(s.token) {
		return fmt.Errorf("cannot use the state: its token has %d bytes, not %d", len(token), len(s.token))
	}
	s.token = remote.Token(token)
	if had, err := remote.ReadToken(remote.TokenFile(dir)); err != nil || had != s.token { // it may be a secret's mount
		return remote.WriteToken(remote.TokenFile(dir), s.token)
	}
	return nil
}

// openFolderOf finds out whether the data folder is the one that the state was used with last.
func (s *state) openFolderOf(ctx context.Context) error {
	mine, err := kept(ctx, s.folder, folderItem, random(folderIDLen))
	if err != nil {
		return err
	}
	item, err := s.tables.Get(ctx, ownTable, folderItem)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && string(item.Value) == string(mine) {
		return nil
	}
	if err == nil {
		s.lost = time.Now()
	}
	_, err = s.tables.Put(ctx, ownTable, store.Item{Key: folderItem, Value: mine, Version: item.Version})
	return err
}

// kept returns an item of the backend's own, and makes it if it is not there.
func kept(ctx context.Context, st store.Store, name string, value func() ([]byte, error)) ([]byte, error) {
	item, err := st.Get(ctx, ownTable, name)
	if errors.Is(err, store.ErrNotFound) {
		item = store.Item{Key: name}
		if item.Value, err = value(); err == nil {
			item, err = st.Put(ctx, ownTable, item)
		}
	}
	return item.Value, err
}

func random(n int) func() ([]byte, error) {
	return func() ([]byte, error) {
		b := make([]byte, n)
		rand.Read(b) // it never fails
		return b, nil
	}
}

// close gives the state up.
func (s *state) close() error {
	var errs []error
	if s.tables != nil {
		errs = append(errs, s.tables.Close())
	}
	if s.folder != nil {
		errs = append(errs, s.folder.Close())
	}
	return errors.Join(errs...)
}
