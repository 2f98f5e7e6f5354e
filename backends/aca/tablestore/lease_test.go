package tablestore_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca/tablestore"
	"github.com/sockerless/sockerless/engine/store"
)

// patience is how long a test waits for what has to come.
const patience = 2 * time.Minute

// within receives what has to come.
func within[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("what has to come does not")
	}
	return v
}

func awaitLost(t *testing.T, s *tablestore.Store) error {
	t.Helper()
	select {
	case <-s.Lost():
		return s.Reason()
	case <-time.After(patience):
		t.Fatal("the lease is not lost")
		return nil
	}
}

func TestSecondWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"right": 0, "behind": -3 * time.Hour, "ahead": 3 * time.Hour} {
		t.Run("this machine's clock is "+name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t, azuresim.WithStorageClock(func() time.Time { return time.Now().Add(-skew) }))
			first := open(t, a.options(t, "state", "first", 0))
			put(t, first, "k", "one", "")
			told := make(chan string, 1)
			o := a.options(t, "state", "second", 0)
			o.Waiting = func(holder string) { told <- holder }
			opened := make(chan *tablestore.Store, 1)
			go func() { // ends when the first is closed
				s, err := tablestore.Open(t.Context(), o)
				if err != nil {
					t.Error(err)
				}
				opened <- s
			}()
			if holder := within(t, told); holder != "first" {
				t.Errorf("the second waits for %q", holder)
			}
			select {
			case <-opened:
				t.Fatal("two stores have one table")
			case <-time.After(3 * time.Second):
			}
			item := put(t, first, "k2", "two", "")
			if !first.Held() {
				t.Error("a lease that is held is not Held")
			}
			closed(t, first)
			second := within(t, opened)
			if second == nil {
				return // it is told
			}
			if got, err := second.Get(t.Context(), "t", "k2"); err != nil || got.Version != item.Version {
				t.Errorf("the second has %+v (%v)", got, err)
			}
			closed(t, second)
		})
	}
}

func put(t *testing.T, s *tablestore.Store, key, value, version string) store.Item {
	t.Helper()
	item, err := s.Put(t.Context(), "t", store.Item{Key: key, Value: []byte(value), Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// gate is a network that keeps requests from arriving once it is shut, and remembers them.
type gate struct {
	next http.RoundTripper

	mu   sync.Mutex
	shut bool
	kept []*http.Request
	seen chan struct{} // gets one word for each
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		return g.next.RoundTrip(r)
	}
	late := r.Clone(context.WithoutCancel(r.Context()))
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		late.Body = io.NopCloser(bytes.NewReader(body))
	}
	g.kept = append(g.kept, late)
	select {
	case g.seen <- struct{}{}:
	default:
	}
	return nil, errors.New("the network is down")
}

// A holder that is cut off stops by itself, and what it sent before arrives too late for the next holder's state.
func TestLateWriteIsFenced(t *testing.T) {
	t.Parallel()
	a := newAccount(t, azuresim.Calm())
	o := a.options(t, "state", "first", 6*time.Second)
	g := &gate{next: o.Client.Transport.(*http.Client).Transport, seen: make(chan struct{}, 1)}
	o.Client.Transport = &http.Client{Transport: g}
	first := open(t, o)
	defer closed(t, first)
	item := put(t, first, "k", "one", "")
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	wrote := make(chan error, 1)
	go func() { // ends with the lease
		_, err := first.Put(t.Context(), "t", store.Item{Key: "k", Value: []byte("late"), Version: item.Version})
		wrote <- err
	}()
	within(t, g.seen)
	second := open(t, a.options(t, "state", "second", 0))
	defer closed(t, second)
	awaitLost(t, first)
	if err := within(t, wrote); !errors.Is(err, tablestore.ErrLost) {
		t.Errorf("the write of the first: %v", err)
	}
	if _, err := first.Get(t.Context(), "t", "k"); !errors.Is(err, tablestore.ErrLost) || first.Held() {
		t.Errorf("a read of the first: %v", err)
	}
	g.mu.Lock()
	kept := slices.Clone(g.kept)
	g.mu.Unlock()
	sent := 0
	for _, r := range kept {
		if !strings.HasSuffix(r.URL.Path, "$batch") {
			continue
		}
		sent++
		answer, err := g.next.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !bytes.Contains(body, []byte("UpdateConditionNotSatisfied")) {
			t.Errorf("the late write is answered %s (%v)", body, err)
		}
	}
	if sent == 0 {
		t.Error("nothing was on its way")
	}
	if got, err := second.Get(t.Context(), "t", "k"); err != nil || string(got.Value) != "one" {
		t.Errorf("the second has %q (%v)", got.Value, err)
	}
	put(t, second, "k", "two", item.Version)
}

// The answer to a write is lost, again and again: the write is done once, and its version is known.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	a := newAccount(t, azuresim.Calm())
	if err := errors.Join(a.sim.DropAnswer("POST", `/state$`, 1), a.sim.DropAnswer("POST", `/Tables$`, 1), a.sim.DropAnswer("PUT", `/state\(`, 1)); err != nil {
		t.Fatal(err)
	}
	s := open(t, a.options(t, "state", "first", 0)) // the table, the lease and its taking are told to nobody
	defer closed(t, s)
	lose := func() {
		t.Helper()
		if err := a.sim.DropAnswer("POST", `\$batch$`, 1); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	item := put(t, s, "k", "one", "")
	lose()
	item = put(t, s, "k", "two", item.Version)
	if got, err := s.Get(t.Context(), "t", "k"); err != nil || string(got.Value) != "two" || got.Version != item.Version {
		t.Errorf("the store has %q version %s (%v), want \"two\" version %s", got.Value, got.Version, err, item.Version)
	}
	lose()
	if _, err := s.Put(t.Context(), "t", store.Item{Key: "k"}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a new item over an old one: %v", err)
	}
	lose()
	if err := s.Delete(t.Context(), "t", "k", item.Version); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "t", "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
}

// A storage that throttles for a while costs nothing; one that does so for longer than the term costs the lease.
func TestBusyStorage(t *testing.T) {
	t.Parallel()
	a := newAccount(t, azuresim.Calm())
	for i, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError} {
		if err := a.sim.Inject(azuresim.Fault{Kind: azuresim.FaultAnswer, Method: "POST", Path: `batch$`, Status: status, Code: "ServerBusy", Message: "Busy.", RetryAfter: i}); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, a.options(t, "state", "first", 0))
	put(t, s, "k", "one", "")
	closed(t, s)

	s = open(t, a.options(t, "state", "first", 10*time.Second))
	if err := a.sim.Fail("", `/state|batch$`, -1, http.StatusServiceUnavailable, "ServerBusy", "Busy."); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put(t.Context(), "t", store.Item{Key: "k2"})
	if reason := awaitLost(t, s); !errors.Is(err, tablestore.ErrLost) || !strings.Contains(reason.Error(), "could not be renewed for 10s: Azure Table Storage answered 503 ServerBusy") || strings.Contains(reason.Error(), "\n") {
		t.Errorf("the write: %v; the reason: %v", err, reason)
	}
	closed(t, s)
	a.sim.ClearFaults()
	s = open(t, a.options(t, "state", "first", 0))
	if _, err := s.Get(t.Context(), "t", "k"); err != nil {
		t.Error(err)
	}
	closed(t, s)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	a := newAccount(t, azuresim.Calm())
	s := open(t, a.options(t, "state", "first", 0))
	defer closed(t, s)
	_, err := s.Put(t.Context(), "t", store.Item{Key: "large", Value: make([]byte, 1<<20)})
	if err == nil || err.Error() != "cannot write t/large: its 1048576 bytes are more than an entity of a table holds, which is 983040" {
		t.Errorf("a value that is too large: %v", err)
	}
	if _, err := s.Put(t.Context(), "t", store.Item{Key: "fits", Value: make([]byte, 983040)}); err != nil {
		t.Errorf("the largest value: %v", err)
	}
	_, err = s.Put(t.Context(), "t", store.Item{Key: strings.Repeat("k", 600)})
	if err == nil || !strings.Contains(err.Error(), "its key takes 602 characters in a table, which has room for 512") {
		t.Errorf("a key that is too long: %v", err)
	}

	role := azuresim.Assignment{Principal: a.sim.Operator().ObjectID, Role: "Storage Table Data Contributor", Scope: a.sim.World().StorageAccountID()}
	if !a.sim.Unassign(role) {
		t.Fatal("the operator does not have the role")
	}
	_, err = s.Put(t.Context(), "t", store.Item{Key: "k"})
	if err == nil || errors.Is(err, tablestore.ErrLost) || !strings.Contains(err.Error(), "403 AuthorizationPermissionMismatch") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a write without the role: %v", err)
	}
	_, err = tablestore.Open(t.Context(), a.options(t, "other", "second", 0))
	if err == nil || !strings.Contains(err.Error(), "403 AuthorizationPermissionMismatch") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a table without the role: %v", err)
	}
	if err := a.sim.Assign(role); err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "the role is back in time", "")
}

// holder is another process that has the lease.
type holder struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// childSetting makes this program a holder.
const childSetting = "TABLESTORE_TEST_HOLDER"

type child struct {
	URL, CAFile, Token string
	Term               time.Duration
}

func (a account) hold(t *testing.T, table string, term time.Duration) *holder {
	t.Helper()
	token, err := a.sim.Token(a.sim.Operator(), "https://storage.azure.com")
	if err != nil {
		t.Fatal(err)
	}
	setting, err := json.Marshal(child{a.sim.TableURL(a.srv, table), a.srv.CAFile, token, term})
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{cmd: exec.Command(os.Args[0])}
	h.cmd.Env = append(os.Environ(), childSetting+"="+string(setting))
	h.cmd.Stderr = os.Stderr
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		h.cmd.Wait() // it was killed
	})
	return h
}

func (h *holder) line(t *testing.T) string {
	t.Helper()
	if !h.lines.Scan() {
		t.Fatalf("the holder says no more: %v", h.lines.Err())
	}
	return h.lines.Text()
}

// be is the holder: it writes as fast as it can, says what is done, and at last what it was refused.
func be(setting string) {
	var c child
	if err := json.Unmarshal([]byte(setting), &c); err != nil {
		panic(err)
	}
	o, err := c.options()
	if err != nil {
		panic(err)
	}
	s, err := tablestore.Open(context.Background(), o)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		held := s.Held()
		_, err := s.Put(context.Background(), "t", store.Item{Key: fmt.Sprintf("%08d", i), Value: make([]byte, 2000)})
		if err != nil {
			fmt.Println(held, errors.Is(err, tablestore.ErrLost), err)
			return
		}
		fmt.Printf("%08d\n", i)
	}
}

// A holder that was killed is followed when its lease is over, and every write that it was told was done is there.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	a := newAccount(t, azuresim.Calm())
	h := a.hold(t, "state", 6*time.Second)
	var told []string
	for range 30 {
		told = append(told, h.line(t))
	}
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	s := open(t, a.options(t, "state", "second", 0))
	defer closed(t, s)
	t.Logf("taken over %v after the kill, of a term of 6 s", time.Since(killed).Round(time.Second/10))
	for _, key := range told {
		if _, err := s.Get(t.Context(), "t", key); err != nil {
			t.Errorf("%s was done and is lost: %v", key, err)
		}
	}
}

// A holder that stood still while another took over does nothing when it goes on.
func TestStalledHolder(t *testing.T) {
	t.Parallel()
	a := newAccount(t, azuresim.Calm())
	h := a.hold(t, "state", 6*time.Second)
	h.line(t)
	if err := h.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s := open(t, a.options(t, "state", "second", 0))
	defer closed(t, s)
	count := func() (n int) {
		for _, err := range s.List(t.Context(), "t") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	before := count()
	if err := h.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	last := h.line(t)
	for len(last) == 8 { // what was done before it stood still
		last = h.line(t)
	}
	if !strings.HasPrefix(last, "true true ") && !strings.HasPrefix(last, "false true ") || !strings.Contains(last, tablestore.ErrLost.Error()) {
		t.Errorf("the holder that went on was told %q", last)
	}
	if after := count(); after != before {
		t.Errorf("the holder that went on has written: %d items became %d", before, after)
	}
}
