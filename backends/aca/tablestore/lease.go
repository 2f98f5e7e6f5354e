package tablestore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// lease is the entity that says who has the store.
type lease struct {
	holder string // id of a Store; empty: nobody
	name   string // of the holder, for people
	epoch  int64  // how often the lease has changed hands
	commit string // of the last transaction
	term   time.Duration
	etag   azcore.ETag
	age    time.Duration // when it was read, by the storage's clock
}

// clockGrain is what the storage's two clocks may differ by: the Date header counts seconds, and an account's servers
// are not one machine.
const clockGrain = 2 * time.Second

// free says whether the lease is to be had.
func (l *lease) free() bool {
	return l.holder == "" || l.age > cmp.Or(max(l.term, 0), defaultTerm)+clockGrain
}

// acquire takes the lease as soon as it is free.
func (s *Store) acquire(ctx context.Context) error {
	told := ""
	ctx = policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: 5, RetryDelay: 200 * time.Millisecond, TryTimeout: s.opt.Term / 3})
	for {
		asked := time.Now()
		l, err := s.readLease(ctx)
		switch {
		case status(err) == http.StatusNotFound:
			err = s.found(ctx)
		case err != nil:
		case l.holder == s.id: // taken by this very loop
			s.lease = *l
			s.log.Info("the state is this backend's", "epoch", l.epoch)
			return nil
		case l.free():
			s.renewed(asked) // it lasts from before the request at least
			err = s.take(ctx, l)
		default:
			if l.holder != told {
				told = l.holder
				s.log.Info("waiting for the state", "holder", l.name, "age", l.age, "term", l.term)
				s.opt.Waiting(l.name)
			}
			pause(ctx, s.opt.Term/15)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && told != "" && !definite(err): // it was there a moment ago
			s.log.Warn("cannot see who has the state", "error", short(err))
			pause(ctx, s.opt.Term/15)
		case err != nil:
			return short(err)
		}
	}
}

// found makes the table, or the free lease in it.
func (s *Store) found(ctx context.Context) error {
	raw, err := s.encodeLease(&lease{})
	if err != nil {
		return err
	}
	_, err = s.table.AddEntity(ctx, raw, nil)
	if status(err) == http.StatusNotFound {
		_, err = s.table.CreateTable(ctx, nil)
	}
	if code(err) == string(aztables.EntityAlreadyExists) || code(err) == string(aztables.TableAlreadyExists) {
		return nil // by another, or by a request whose answer was lost
	}
	return err
}

// take writes this store into a free lease. Whether it succeeds, the next look tells: so a lost answer is no matter.
func (s *Store) take(ctx context.Context, l *lease) error {
	raw, err := s.encodeLease(&lease{holder: s.id, name: s.opt.Holder, epoch: l.epoch + 1, term: s.opt.Term})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Term/2)
	defer cancel()
	_, err = s.table.UpdateEntity(ctx, raw, &aztables.UpdateEntityOptions{IfMatch: &l.etag, UpdateMode: aztables.UpdateModeReplace})
	if status(err) == http.StatusPreconditionFailed || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// release leaves the lease without a holder.
func (s *Store) release() error {
	raw, err := s.encodeLease(&lease{epoch: s.lease.epoch})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.Term/6)
	defer cancel()
	_, err = s.table.UpdateEntity(ctx, raw, &aztables.UpdateEntityOptions{IfMatch: &s.lease.etag, UpdateMode: aztables.UpdateModeReplace})
	if status(err) == http.StatusPreconditionFailed {
		return nil // it is another's, or was given up by a request whose answer was lost
	}
	return err
}

func (s *Store) encodeLease(l *lease) ([]byte, error) {
	return json.Marshal(aztables.EDMEntity{
		Entity: aztables.Entity{PartitionKey: partition, RowKey: leaseRow},
		Properties: map[string]any{
			"Holder": l.holder, "Name": l.name, "Epoch": aztables.EDMInt64(l.epoch), "Commit": l.commit, "Term": aztables.EDMInt64(l.term.Milliseconds()),
		},
	})
}

// readLease reads the lease and, from the same answer, the storage's clock.
func (s *Store) readLease(ctx context.Context) (*lease, error) {
	var answer *http.Response
	got, err := s.table.GetEntity(policy.WithCaptureResponse(ctx, &answer), partition, leaseRow, nil)
	if err != nil {
		return nil, err
	}
	var e aztables.EDMEntity
	if err := json.Unmarshal(got.Value, &e); err != nil {
		return nil, fmt.Errorf("cannot read the lease: %w", err)
	}
	now, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return nil, fmt.Errorf("cannot tell the storage's time: %w", err)
	}
	if time.Time(e.Timestamp).IsZero() { // a lease without an age must not pass for an old one
		return nil, errors.New("cannot tell the lease's age: it has no Timestamp")
	}
	text := func(name string) string { v, _ := e.Properties[name].(string); return v }
	number := func(name string) int64 { v, _ := e.Properties[name].(aztables.EDMInt64); return int64(v) }
	return &lease{
		holder: text("Holder"), name: text("Name"), commit: text("Commit"), epoch: number("Epoch"),
		term: time.Duration(number("Term")) * time.Millisecond, etag: got.ETag, age: now.Sub(time.Time(e.Timestamp)),
	}, nil
}

// renewed: a request that was sent at an instant has prolonged the lease.
func (s *Store) renewed(sent time.Time) {
	until := sent.Add(s.opt.Term)
	s.until.Store(&until)
}
