package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/store"
)

// checked is a container with a check that fails while a file is there, and else writes a line into the file's neighbour.
func (r *rig) checked(interval time.Duration) (id, flag string) {
	r.t.Helper()
	flag = filepath.Join(r.t.TempDir(), "flag")
	c := sh("exec sleep 1000")
	c.Healthcheck = &docker.HealthConfig{Test: []string{"CMD-SHELL", "test ! -e " + flag + " && echo >>" + flag + ".well"}, Interval: interval, Retries: 1}
	id = r.create(c)
	r.start(id)
	return id, flag
}

func (r *rig) awaitHealth(id string, status docker.HealthStatus) *docker.Health {
	r.t.Helper()
	var h *docker.Health
	eventually(r.t, "it is "+string(status), func() bool {
		h = r.find(id).State.Health
		return h != nil && h.Status == status
	})
	return h
}

// statuses are the changes of a container's health that were told, by engines before too.
func (r *rig) statuses(id string) (all []string) {
	r.t.Helper()
	opt := sockerless.EventOptions{Since: time.Unix(1, 0), Until: time.Now(), Filters: sockerless.Filters{"container": {id}, "event": {"health_status"}}}
	for m := range r.events(opt) {
		all = append(all, strings.TrimPrefix(string(m.Action), "health_status: "))
	}
	return all
}

// A change while the backend is away is learnt, and so is how it was, after an orderly end and after a crash, which
// stores nothing more.
func TestHealthOverARestartOfTheBackend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		for _, crash := range []bool{false, true} {
			t.Run(map[bool]string{false: "in order", true: "crash"}[crash], func(t *testing.T) {
				r := newRig(t, rigOptions{reverse: reverse})
				m := withStore(r)
				restart := func(change func()) {
					t.Helper()
					if crash {
						m.left.Store(0)
					}
					r.close()
					if r.hub != nil {
						r.hub.Close()
						r.newHub()
					}
					change()
					time.Sleep(100 * time.Millisecond)
					m.left.Store(1 << 40)
					r.open()
				}
				id, flag := r.checked(10 * time.Millisecond)
				r.awaitHealth(id, docker.Healthy)
				eventually(t, "there are five results", func() bool { return len(r.find(id).State.Health.Log) == 5 })

				restart(func() {
					if err := os.WriteFile(flag, nil, 0o644); err != nil {
						t.Fatal(err)
					}
				})
				h := r.awaitHealth(id, docker.Unhealthy)
				if h.FailingStreak == 0 || len(h.Log) != 5 || h.Log[4].ExitCode != 1 {
					t.Errorf("%+v", h)
				}
				// A crash may have come before it was stored that it was healthy, which is told again then.
				var got string
				is := func(want string) func() bool {
					return func() bool {
						got = strings.Join(r.statuses(id), " ")
						return got == want || crash && strings.HasSuffix(got, want)
					}
				}
				eventually(t, "it is told", is("healthy unhealthy"))

				// There and back: both changes are told.
				restart(func() {
					os.Remove(flag + ".well")
					os.Remove(flag)
					eventually(t, "a check has gone well, and another one", func() bool {
						lines, _ := os.ReadFile(flag + ".well")
						return len(lines) > 1
					})
					os.WriteFile(flag, nil, 0o644)
				})
				eventually(t, "both are told", is("healthy unhealthy healthy unhealthy"))
				r.awaitHealth(id, docker.Unhealthy)

				// Nothing changes, and the log is there again although its results were acknowledged.
				eventually(t, "it goes on", func() bool { return r.find(id).State.Health.FailingStreak > 10 })
				streak := r.find(id).State.Health.FailingStreak
				restart(func() {})
				eventually(t, "the streak is known", func() bool { return r.find(id).State.Health.FailingStreak > streak })
				if last := is("healthy unhealthy healthy unhealthy")() || crash && is("healthy unhealthy unhealthy")(); !last {
					t.Errorf("told: %s", got)
				}
			})
		}
	})
}

// counting is a store that counts what is written.
type counting struct {
	store.Store
	puts atomic.Int64
}

func (c *counting) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	c.puts.Add(1)
	return c.Store.Put(ctx, table, item)
}

// Probes that say what the ones before have said write nothing, and such as contradict each other do not write often.
func TestHealthIsSeldomStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.close()
	s, err := store.Open(filepath.Join(r.dir, "shared.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close(); s.Close() })
	c := &counting{Store: s}
	r.opt.Store = c
	r.open()

	id, flag := r.checked(time.Millisecond)
	r.awaitHealth(id, docker.Healthy)
	probes := func(n int) {
		t.Helper()
		for range n {
			last := r.find(id).State.Health.Log
			end := last[len(last)-1].End
			eventually(t, "there is another result", func() bool {
				now := r.find(id).State.Health.Log
				return now[len(now)-1].End.After(end)
			})
		}
	}
	probes(1)
	before := c.puts.Load()
	probes(10)
	if n := c.puts.Load() - before; n != 0 {
		t.Errorf("10 probes have written %d times", n)
	}
	before, begin := c.puts.Load(), time.Now()
	for range 10 {
		if err := os.WriteFile(flag, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		r.awaitHealth(id, docker.Unhealthy)
		os.Remove(flag)
		r.awaitHealth(id, docker.Healthy)
	}
	if n, most := c.puts.Load()-before, int64(time.Since(begin)/time.Second)+1; n > most {
		t.Errorf("20 changes within %v have written %d times", time.Since(begin), n)
	}
}

// A health that cannot be stored is shown and told all the same, and stored when that works again.
func TestHealthThatCannotBeStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	m := withStore(r)
	id, flag := r.checked(10 * time.Millisecond)
	r.awaitHealth(id, docker.Healthy)
	m.left.Store(0)
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.awaitHealth(id, docker.Unhealthy)
	eventually(t, "it is told", func() bool { return strings.Join(r.statuses(id), " ") == "healthy unhealthy" })
	m.left.Store(1 << 40)
	eventually(t, "it is stored", func() bool {
		item, err := m.Get(t.Context(), "containers", id)
		return err == nil && strings.Contains(string(item.Value), `"Health":{"Status":"unhealthy"`)
	})
}

// A probe that is faster than the answer to the start, and an end that comes as fast.
func TestHealthOfAShortLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for range 5 {
		looks := filepath.Join(t.TempDir(), "looks")
		if err := os.WriteFile(looks, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		c := sh("while [ $(wc -l <" + looks + ") -lt 5 ]; do :; done")
		c.Healthcheck = &docker.HealthConfig{Test: []string{"CMD-SHELL", "echo >>" + looks}, Interval: time.Millisecond}
		id := r.create(c)
		exit := r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		exit()
		if h := r.find(id).State.Health; h == nil || h.Status != docker.Unhealthy || len(h.Log) == 0 {
			t.Errorf("%+v", h)
		}
	}
}
