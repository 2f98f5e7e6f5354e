package tablestore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/sockerless/sockerless/engine/store"
)

const (
	maxWrites = 99      // of one transaction: the lease is its hundredth entity
	maxBytes  = 1 << 20 // of their entities, where there are several; a transaction may have 4 MiB
)

// write is one change.
type write struct {
	store.Pending
	row     string
	action  aztables.TransactionAction
	version string // of what was written
}

func newPut(row string, item store.Item) (*write, error) {
	raw, err := encodeEntity(row, item.Value)
	if err != nil {
		return nil, err
	}
	w := &write{Pending: store.NewPending(), row: row, action: aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: raw}}
	if item.Version != "" {
		w.action.ActionType, w.action.IfMatch = aztables.TransactionTypeUpdateReplace, to.Ptr(azcore.ETag(item.Version))
	}
	return w, nil
}

func newDelete(row, version string) (*write, error) {
	raw, err := encodeEntity(row, nil)
	return &write{Pending: store.NewPending(), row: row, action: aztables.TransactionAction{
		ActionType: aztables.TransactionTypeDelete, Entity: raw, IfMatch: to.Ptr(azcore.ETag(version)),
	}}, err
}

func (w *write) deletes() bool { return w.action.ActionType == aztables.TransactionTypeDelete }

// refuse decides a write by the storage's answer to it.
func (w *write) refuse(r *refusal) {
	switch {
	case r.status == http.StatusNotFound && w.deletes(): // it is gone already
	case r.status == http.StatusNotFound || r.status == http.StatusConflict || r.status == http.StatusPreconditionFailed:
		w.Err = store.ErrConflict
	default:
		w.Err = r
	}
}

// commits makes one transaction of all the writes that wait, again and again, and renews the lease when there are none.
func (s *Store) commits() {
	defer close(s.done)
	renew := time.NewTicker(s.opt.Term / 6)
	defer renew.Stop()
	var next []*write // taken from s.writes, for a transaction to come
	for open := true; open || len(next) > 0; {
		if len(next) == 0 {
			select {
			case w, ok := <-s.writes.Waiting():
				if open = ok; !ok {
					continue
				}
				next = append(next, w)
			case <-renew.C:
				if s.Reason() != nil {
					continue
				}
			}
		}
		next = s.writes.Fill(next, maxWrites)
		var batch []*write
		batch, next = split(next)
		s.turn.Lock()
		s.transact(batch)
		s.turn.Unlock()
		for _, w := range batch {
			w.Done()
		}
	}
}

// split takes as many writes as a transaction can hold, of an entity one at most.
func split(all []*write) (batch, rest []*write) {
	size, seen := 0, map[string]bool{}
	for _, w := range all {
		if seen[w.row] || len(batch) > 0 && size+len(w.action.Entity) > maxBytes {
			rest = append(rest, w)
			seen[w.row] = true // what waits for its entity is not overtaken
			continue
		}
		size += len(w.action.Entity)
		seen[w.row] = true
		batch = append(batch, w)
	}
	return batch, rest
}

// transact makes the writes and renews the lease, and decides each write: done, refused, or without a store. It never
// leaves one open, as the engine could not go on with a record of which it does not know the version: while the storage
// does not answer it asks again what has become of the transaction, until the lease is over. s.turn is held.
func (s *Store) transact(batch []*write) {
	if s.Reason() != nil {
		fail(batch, s.reason)
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), *s.until.Load())
	defer cancel()
	l := s.lease
	l.commit = rand.Text()
	cause := errors.New("there was no time for it")
	for {
		sent := time.Now()
		etags, err := s.submit(ctx, &l, batch)
		if err == nil {
			s.renewed(sent)
			s.lease = l
			s.lease.etag = etags[0]
			for i, w := range batch {
				w.version = string(etags[i+1])
			}
			return
		}
		// The SDK repeats a request whose answer was lost, and the second is refused by what the first has done. So
		// whatever the answer is, the lease tells.
		var refused *refusal
		if ctx.Err() == nil && !errors.As(err, &refused) {
			cause = short(err)
		}
		now, lerr := s.readLease(ctx)
		switch {
		case ctx.Err() != nil:
			fail(batch, s.lose("it could not be renewed for %v: %v", s.opt.Term, cause))
			return
		case status(lerr) == http.StatusNotFound:
			fail(batch, s.lose("it is gone from the table"))
			return
		case lerr != nil && definite(lerr) && definite(err): // no right to the table any more, for instance
			fail(batch, short(err))
			s.log.Warn("cannot write to the state", "error", short(err))
			return
		case lerr != nil:
			pause(ctx, s.opt.Term/30)
			continue
		case now.holder != s.id:
			name := now.name
			if now.holder == "" {
				name = "another process, which has ended since,"
			}
			fail(batch, s.lose("%s has it now, as number %d", name, now.epoch))
			return
		case now.commit == l.commit:
			s.renewed(sent)
			s.lease = *now
			s.versions(ctx, batch)
			return
		}
		s.lease, l.etag = *now, now.etag
		switch {
		case refused == nil:
			if definite(err) {
				fail(batch, short(err))
				return
			}
			pause(ctx, s.opt.Term/30) // Azure has asked for more patience than the SDK has
		case refused.index == 0 && refused.status == http.StatusPreconditionFailed: // now the lease is known again
		case refused.index > 0 && refused.index <= len(batch):
			w := batch[refused.index-1]
			w.refuse(refused)
			s.transactRest(append(batch[:refused.index-1:refused.index-1], batch[refused.index:]...))
			return
		case refused.index == 0: // of no right to write, for instance
			fail(batch, refused)
			s.log.Warn("cannot write to the state", "error", refused)
			return
		case len(batch) == 1:
			batch[0].refuse(refused)
			return
		default: // it does not say which
			for _, w := range batch {
				s.transactRest([]*write{w})
			}
			return
		}
	}
}

// transactRest makes what is left of a transaction that was refused, and so has not renewed the lease. s.turn is held.
func (s *Store) transactRest(batch []*write) {
	if time.Until(*s.until.Load()) < s.opt.Term*2/3 {
		s.transact(nil)
	}
	if len(batch) > 0 {
		s.transact(batch)
	}
}

// versions asks for the ETags that the answer of a transaction would have told.
func (s *Store) versions(ctx context.Context, batch []*write) {
	for _, w := range batch {
		if w.deletes() {
			continue
		}
		answer, err := s.table.GetEntity(ctx, partition, w.row, nil)
		if err != nil {
			if s.Reason() == nil {
				s.lose("what was written cannot be read: %v", short(err)) //nolint:errcheck // it is told below
			}
			w.Err = s.reason
			continue
		}
		w.version = string(answer.ETag)
	}
}

func fail(batch []*write, err error) {
	for _, w := range batch {
		w.Err = err
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// submit sends one transaction, and returns the lease's new ETag and those of the writes; a deleted entity has none.
func (s *Store) submit(ctx context.Context, l *lease, batch []*write) ([]azcore.ETag, error) {
	raw, err := s.encodeLease(l)
	if err != nil {
		return nil, err
	}
	actions := []aztables.TransactionAction{{ActionType: aztables.TransactionTypeUpdateReplace, Entity: raw, IfMatch: &l.etag}}
	for _, w := range batch {
		actions = append(actions, w.action)
	}
	var answer *http.Response
	// The SDK reads the answer without telling the ETags, and finds no error in one without a change set.
	if _, err = s.table.SubmitTransaction(policy.WithCaptureResponse(ctx, &answer), actions, nil); answer == nil || answer.StatusCode != http.StatusAccepted {
		if err == nil {
			err = errors.New("the transaction has no answer")
		}
		return nil, err
	}
	return readAnswers(answer, batch)
}

// readAnswers reads the answers of a transaction.
func readAnswers(answer *http.Response, batch []*write) ([]azcore.ETag, error) {
	body, err := runtime.Payload(answer)
	if err != nil {
		return nil, err
	}
	outer, err := parts(answer.Header.Get("Content-Type"), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	set, err := outer.NextPart()
	if err != nil {
		return nil, fmt.Errorf("the answer of a transaction has no change set: %w", err)
	}
	inner, err := parts(set.Header.Get("Content-Type"), set)
	if err != nil {
		return nil, err
	}
	var etags []azcore.ETag
	for {
		part, err := inner.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the answer of a transaction is cut off: %w", err)
		}
		r, err := http.ReadResponse(bufio.NewReader(part), nil)
		if err != nil {
			return nil, fmt.Errorf("the answer of a transaction cannot be read: %w", err)
		}
		text, err := io.ReadAll(r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, fmt.Errorf("the answer of a transaction cannot be read: %w", err)
		}
		if r.StatusCode >= http.StatusBadRequest {
			return nil, newRefusal(r.StatusCode, text)
		}
		etags = append(etags, azcore.ETag(r.Header.Get("ETag")))
	}
	if len(etags) != len(batch)+1 {
		return nil, fmt.Errorf("the transaction of %d writes has %d answers", len(batch)+1, len(etags))
	}
	for i, etag := range etags {
		if etag == "" && (i == 0 || !batch[i-1].deletes()) {
			return nil, errors.New("the answer of a write has no ETag")
		}
	}
	return etags, nil
}

func parts(contentType string, body io.Reader) (*multipart.Reader, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return nil, fmt.Errorf("the answer of a transaction is %q", contentType)
	}
	return multipart.NewReader(body, params["boundary"]), nil
}

// refusal is the storage's no.
type refusal struct {
	status        int
	code, message string
	index         int // of the operation of a transaction; -1: it does not say
}

func (r *refusal) Error() string {
	return fmt.Sprintf("Azure Table Storage answered %d %s: %s", r.status, r.code, r.message)
}

// newRefusal reads the answer to an operation. Which one it was is a number before the message.
func newRefusal(status int, body []byte) *refusal {
	r := &refusal{status: status, index: -1}
	r.code, r.message = readODataError(body)
	if number, text, ok := strings.Cut(r.message, ":"); ok {
		if i, err := strconv.Atoi(number); err == nil && i >= 0 {
			r.index, r.message = i, text
		}
	}
	return r
}

// readODataError reads an error's body; the message is its first line, as the others are for Azure's support.
func readODataError(body []byte) (code, message string) {
	var in struct {
		Error struct {
			Code    string
			Message struct{ Value string }
		} `json:"odata.error"`
	}
	if json.Unmarshal(body, &in) != nil {
		return "", "it gave no reason"
	}
	message, _, _ = strings.Cut(in.Error.Message.Value, "\n")
	return in.Error.Code, message
}

// messageOf is the message in a refusal of a whole request.
func messageOf(e *azcore.ResponseError) string {
	if e.RawResponse == nil {
		return "it gave no reason"
	}
	body, err := runtime.Payload(e.RawResponse)
	if err != nil {
		return "its reason is cut off"
	}
	_, message := readODataError(body)
	return message
}

// code is the storage's own word for a refusal, or empty.
func code(err error) string {
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		return refused.ErrorCode
	}
	return ""
}

// definite says whether an error tells that the request was not carried out and would not be if it were repeated.
func definite(err error) bool {
	s := status(err)
	return s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests
}
