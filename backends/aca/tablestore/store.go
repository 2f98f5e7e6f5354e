// Package tablestore is the engine's store in Azure Table Storage, for a backend whose disk does not outlive it.
//
// All items of a store are entities of one partition, and so is the lease: the entity that says which process has the
// store. Every write is one transaction of the partition that also replaces the lease, on the condition that nobody else
// has: so whoever lost the lease cannot write, however late a request of theirs arrives. Writes that come at the same time
// share a transaction. Each transaction leaves its own mark in the lease, so that one whose answer was lost is known to
// have happened or not, and is never made twice.
//
// No clock of this machine is trusted with the time of day: how old a lease is, is the difference of two times that the
// storage told, and how long one's own lasts is measured.
package tablestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/sockerless/sockerless/engine/store"
)

// Options say where a store is and who opens it.
type Options struct {
	URL        string // of the table, which is made if it is not there: https://ACCOUNT.table.core.windows.net/TABLE
	Credential azcore.TokenCredential
	Client     azcore.ClientOptions // of the cloud, with attempt.OwnBody; its Retry is not used
	Holder     string               // what others are told who has the lease, such as a host's name

	// Term is how long a lease lasts that is not renewed; 0: 30 s. What has it renews it six times in that time. A process
	// that died is followed after it, one that closed its store at once.
	Term time.Duration

	// Waiting, if set, is told who has the lease when Open has to wait, and again whenever that is another.
	Waiting func(holder string)
	Logger  *slog.Logger // nil: none
}

const defaultTerm = 30 * time.Second

// ErrLost is the error of every use of a store whose lease was lost.
var ErrLost = errors.New("the lease on the state is lost")

// Store is a store.Store that this process alone may write to, until Lost.
type Store struct {
	opt    Options
	log    *slog.Logger
	table  *aztables.Client
	id     string // of this holder
	writes *store.Queue[*write]
	done   chan struct{} // closed when no commit is made any more
	lost   chan struct{}

	turn  sync.Mutex // held over a transaction, and over a list: it sees one moment
	lease lease      // as it was written last; under turn
	until atomic.Pointer[time.Time]

	reason error // why it is lost; set before lost is closed
}

// Open takes the lease on a table, waiting for whoever has it, and returns the store. It fails at once if the storage
// refuses, and with ctx's error when that ends first. The caller closes the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Term == 0 {
		o.Term = defaultTerm
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Waiting == nil {
		o.Waiting = func(string) {}
	}
	o.Client.Retry = policy.RetryOptions{
		MaxRetries: 5, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: o.Term / 6, TryTimeout: o.Term / 3,
	}
	table, err := NewClient(o.URL, o.Credential, o.Client)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt: o, log: o.Logger, table: table, id: rand.Text(),
		writes: store.NewQueue[*write](maxWrites), done: make(chan struct{}), lost: make(chan struct{}),
	}
	if err := s.acquire(ctx); err != nil {
		return nil, fmt.Errorf("cannot open table %s: %w", o.URL, err)
	}
	go s.commits() // ends when Close closes s.writes
	return s, nil
}

// NewClient returns the SDK's client of the table at url, in the cloud of the options.
func NewClient(url string, credential azcore.TokenCredential, o azcore.ClientOptions) (*aztables.Client, error) {
	services := maps.Clone(o.Cloud.Services)
	if services == nil {
		services = map[cloud.ServiceName]cloud.ServiceConfiguration{}
	}
	if _, known := services[aztables.ServiceName]; !known { // the SDK asks for it, and uses the same for all storage
		services[aztables.ServiceName] = cloud.ServiceConfiguration{Audience: "https://storage.azure.com"}
	}
	o.Cloud.Services = services
	table, err := aztables.NewClient(url, credential, &aztables.ClientOptions{ClientOptions: o})
	if err != nil {
		return nil, fmt.Errorf("cannot open table %s: %w", url, err)
	}
	return table, nil
}

// Lost is closed when this process may not act on the state any more: another one has the lease, or may have it. Reason
// then says why. Close the store all the same.
func (s *Store) Lost() <-chan struct{} { return s.lost }

// Reason says why the lease is lost: an ErrLost, or nil if it is not.
func (s *Store) Reason() error {
	select {
	case <-s.lost:
		return s.reason
	default:
		return nil
	}
}

// Held says whether the lease is sure to be this process's. After a pause of the whole process it is false before the
// loss is found out.
func (s *Store) Held() bool { return s.Reason() == nil && time.Now().Before(*s.until.Load()) }

// Get returns one item, or store.ErrNotFound.
func (s *Store) Get(ctx context.Context, table, key string) (store.Item, error) {
	item, err := s.get(ctx, rowKey(table, key))
	item.Key = key
	if err != nil {
		return store.Item{}, fmt.Errorf("cannot read %s/%s: %w", table, key, err)
	}
	return item, nil
}

func (s *Store) get(ctx context.Context, row string) (store.Item, error) {
	if err := s.Reason(); err != nil {
		return store.Item{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Term)
	defer cancel()
	answer, err := s.table.GetEntity(ctx, partition, row, nil)
	if status(err) == http.StatusNotFound {
		return store.Item{}, store.ErrNotFound
	}
	if err != nil {
		return store.Item{}, short(err)
	}
	value, _, err := decodeEntity(answer.Value)
	return store.Item{Value: value, Version: string(answer.ETag)}, err
}

// List yields a table's items in the order of their keys, as of the moment when the loop began. It reads them all
// before it yields the first, while writes wait.
func (s *Store) List(ctx context.Context, table string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		items, err := s.list(ctx, table)
		if err != nil {
			yield(store.Item{}, fmt.Errorf("cannot list %s: %w", table, err))
			return
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

func (s *Store) list(ctx context.Context, table string) ([]store.Item, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.Reason(); err != nil {
		return nil, err
	}
	// It ends before the renewal that it holds up is due.
	ctx, cancel := context.WithTimeout(ctx, time.Until(*s.until.Load())*2/3)
	defer cancel()
	pages := s.table.NewListEntitiesPager(&aztables.ListEntitiesOptions{
		Filter: to.Ptr(fmt.Sprintf("PartitionKey eq '%s' and RowKey ge '%s' and RowKey lt '%s'", partition, rowKey(table, ""), encode(table)+afterSeparator)),
		Format: to.Ptr(aztables.MetadataFormatFull), // the others do not promise the ETag
	})
	var items []store.Item
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, short(err)
		}
		for _, raw := range page.Entities {
			value, e, err := decodeEntity(raw)
			if err != nil {
				return nil, err
			}
			key, err := keyOf(table, e.RowKey)
			if err != nil {
				return nil, err
			}
			items = append(items, store.Item{Key: key, Value: value, Version: e.ETag})
		}
	}
	slices.SortFunc(items, func(a, b store.Item) int { return cmp.Compare(a.Key, b.Key) })
	return items, nil
}

// Put writes an item; see store.Store. A ctx that ends leaves it open whether the write has happened. A value that no
// entity can hold, or a key that is too long, is refused by name.
func (s *Store) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	w, err := newPut(rowKey(table, item.Key), item)
	if err == nil {
		err = s.writes.Commit(ctx, w)
	}
	if err != nil {
		return store.Item{}, fmt.Errorf("cannot write %s/%s: %w", table, item.Key, err)
	}
	item.Version = w.version
	return item, nil
}

// Delete removes an item; see store.Store.
func (s *Store) Delete(ctx context.Context, table, key, version string) error {
	err := s.delete(ctx, rowKey(table, key), version)
	if err != nil {
		return fmt.Errorf("cannot delete %s/%s: %w", table, key, err)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, row, version string) error {
	if version == "" { // there is no condition for "not there"
		switch _, err := s.get(ctx, row); {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		return store.ErrConflict
	}
	w, err := newDelete(row, version)
	if err != nil {
		return err
	}
	return s.writes.Commit(ctx, w)
}

// Close waits for the writes that have begun and gives the lease up. It may be repeated. A lease that cannot be given up
// ends by itself.
func (s *Store) Close() error {
	first := s.writes.Close()
	<-s.done
	if !first || s.Reason() != nil {
		return nil
	}
	if err := s.release(); err != nil {
		s.log.Warn("cannot give the lease on the state up; it ends by itself", "after", s.opt.Term, "error", err)
	}
	return nil
}

// lose ends the store. Only the goroutine of commits calls it.
func (s *Store) lose(format string, args ...any) error {
	s.reason = fmt.Errorf("%w: %s", ErrLost, fmt.Sprintf(format, args...))
	close(s.lost)
	return s.reason
}

// status is the HTTP status of the storage's refusal, or 0.
func status(err error) int {
	var whole *azcore.ResponseError
	if errors.As(err, &whole) {
		return whole.StatusCode
	}
	var one *refusal
	if errors.As(err, &one) {
		return one.status
	}
	return 0
}

// short is an error of the SDK in one line: its texts have a dozen.
func short(err error) error {
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		return &refusal{index: -1, status: refused.StatusCode, code: refused.ErrorCode, message: messageOf(refused)}
	}
	if text := err.Error(); strings.Contains(text, "\n") {
		return errors.New(strings.Join(strings.Fields(text), " "))
	}
	return err
}
