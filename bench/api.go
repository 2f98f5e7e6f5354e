//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// crowd is how many containers the larger rows of the API have, watchers how many clients read events.
const (
	crowd    = 1000
	watchers = 100
)

// apiMeasurements are the rows of single requests to the API. They come in this order, on hosts that hold nothing yet: each
// list adds containers to those of the one before.
func apiMeasurements(runs int) []measurement {
	asFast := want{text: "<= 1.0x dockerd", ratio: 1, apart: 1}
	rows := []measurement{
		{
			name: "api: create", unit: "ms", want: asFast,
			measure: func(ctx context.Context, p *peer) (float64, error) {
				took, err := median(runs, func() error { return create(ctx, p) })
				if err != nil {
					return 0, err
				}
				return took, p.clear(ctx)
			},
		},
		{
			name: "api: inspect", unit: "ms", want: asFast,
			measure: func(ctx context.Context, p *peer) (float64, error) {
				id, err := p.named(ctx)
				if err != nil {
					return 0, err
				}
				return median(10*runs, func() error {
					_, err := p.Client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
					return err
				})
			},
		},
		{
			name: "api: inspect, CPU", unit: "ms",
			measure: func(ctx context.Context, p *peer) (float64, error) {
				id, err := p.named(ctx)
				if err != nil {
					return 0, err
				}
				const asks = 2000
				seconds, err := p.spent(func() error {
					for range asks {
						if _, err := p.Client.ContainerInspect(ctx, id, client.ContainerInspectOptions{}); err != nil {
							return err
						}
					}
					return nil
				})
				return seconds * 1000 / asks, err
			},
		},
	}
	for _, n := range []int{1, 100, crowd} {
		rows = append(rows, measurement{
			name: fmt.Sprintf("api: list of %d", n), unit: "ms", want: asFast,
			measure: func(ctx context.Context, p *peer) (float64, error) {
				if err := p.fill(ctx, n); err != nil {
					return 0, err
				}
				return median(2*runs, func() error {
					_, err := p.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
					return err
				})
			},
		})
	}
	return append(rows, measurement{
		name: "api: an event, to 100 watchers", unit: "ms", want: asFast,
		measure: func(ctx context.Context, p *peer) (float64, error) {
			w, err := watch(ctx, p)
			if err != nil {
				return 0, err
			}
			defer w.stop()
			return median(2*runs, func() error { return w.rename(ctx, p) })
		},
	}, measurement{
		name: "api: 2,000 reads a second, p99", unit: "ms", want: want{text: "<= 20 ms", fixed: 20, apartFixed: true},
		measure: func(ctx context.Context, p *peer) (float64, error) { return reads(ctx, p, 2000, 10*time.Second) },
	}, measurement{
		name: "api: 2,000 reads a second, CPU", unit: "cores",
		measure: func(ctx context.Context, p *peer) (float64, error) {
			const long = 10 * time.Second
			seconds, err := p.spent(func() error { _, err := reads(ctx, p, 2000, long); return err })
			return seconds / long.Seconds(), err
		},
	}, measurement{
		name: "api: memory, 1,000 containers, 100 watchers", unit: "MB", want: want{text: "<= 150 MB", fixed: 150, apartFixed: true}, programs: true,
		measure: func(ctx context.Context, p *peer) (float64, error) {
			if err := p.fill(ctx, crowd); err != nil {
				return 0, err
			}
			w, err := watch(ctx, p)
			if err != nil {
				return 0, err
			}
			defer w.stop()
			if _, err := median(5, func() error { return w.rename(ctx, p) }); err != nil {
				return 0, err
			}
			programs := p.Pids()
			if !p.docker {
				programs = programs[1:] // the first is the simulator
			}
			return p.rssOf(ctx, programs)
		},
	})
}

// theOne is the container that is asked about.
const theOne = "bench-one"

// named returns the id of the container that is asked about, which it makes if need be.
func (p *peer) named(ctx context.Context) (string, error) {
	have, err := p.Client.ContainerInspect(ctx, theOne, client.ContainerInspectOptions{})
	if err == nil {
		return have.Container.ID, nil
	}
	made, err := p.Client.ContainerCreate(ctx, client.ContainerCreateOptions{Name: theOne, Image: image, Config: &container.Config{
		Env: []string{"A=1", "B=2"}, Labels: map[string]string{"bench": "one"},
	}})
	return made.ID, err
}

// fill makes containers until there are n.
func (p *peer) fill(ctx context.Context, n int) error {
	if _, err := p.named(ctx); err != nil {
		return err
	}
	have, err := p.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return err
	}
	for range n - len(have.Items) {
		if err := create(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// clear removes all containers.
func (p *peer) clear(ctx context.Context) error {
	have, err := p.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return err
	}
	for _, c := range have.Items {
		if _, err := p.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			return err
		}
	}
	return nil
}

// audience is clients that read a host's events.
type audience struct {
	stop  func()
	seen  chan string // what an event has renamed a container to, once a watcher
	ended chan error
	n     int
}

func watch(ctx context.Context, p *peer) (*audience, error) {
	ctx, stop := context.WithCancel(ctx)
	a := &audience{stop: stop, seen: make(chan string, 100*watchers), ended: make(chan error, watchers)}
	for range watchers {
		stream := p.Client.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).Add("event", "rename")})
		go func() { // ends with stop
			for {
				select {
				case m := <-stream.Messages:
					a.seen <- m.Actor.Attributes["name"]
				case err := <-stream.Err:
					a.ended <- err
					return
				}
			}
		}()
	}
	if err := a.rename(ctx, p); err != nil { // which says that all of them stand
		stop()
		return nil, err
	}
	return a, nil
}

// rename renames a container, and back, and returns when every watcher has been told of both.
func (a *audience) rename(ctx context.Context, p *peer) error {
	id, err := p.named(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{fmt.Sprintf("bench-%d", a.n), theOne} {
		if _, err := p.Client.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: name}); err != nil {
			return err
		}
		for told := 0; told < watchers; told++ {
			select {
			case <-a.seen:
			case err := <-a.ended:
				return fmt.Errorf("a watcher was left: %w", err)
			case <-time.After(10 * time.Second):
				return fmt.Errorf("%d of %d watchers were told", told, watchers)
			}
		}
	}
	a.n++
	return nil
}

// mix is what is read, by turns, from a host with many containers: what compose, Testcontainers and editors poll.
var mix = []string{
	"/containers/" + theOne + "/json", "/containers/json?filters=" + `%7B%22label%22%3A%5B%22bench%3Done%22%5D%7D&all=1`,
	"/containers/" + theOne + "/json", "/_ping",
	"/containers/" + theOne + "/json", "/networks",
	"/containers/" + theOne + "/json", "/images/json",
	"/containers/" + theOne + "/json", "/version",
	"/containers/" + theOne + "/json", "/info",
	"/containers/" + theOne + "/json", "/images/" + image + "/json",
	"/containers/" + theOne + "/json", "/containers/json?all=1&limit=20",
}

// reads asks at a steady rate, whether or not answers come, and returns the time from when a request was due to the end of
// its answer that 99 of 100 stay below.
func reads(ctx context.Context, p *peer, perSecond int, long time.Duration) (float64, error) {
	if err := p.fill(ctx, crowd); err != nil {
		return 0, err
	}
	const connections = 32
	socket := strings.TrimPrefix(p.Addr, "unix://")
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: connections, DisableCompression: true,
	}
	defer tr.CloseIdleConnections()
	get := func(path string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
		if err != nil {
			return err
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", path, resp.Status)
		}
		return nil
	}
	for _, path := range mix {
		if err := get(path); err != nil {
			return 0, err
		}
	}
	type due struct {
		at   time.Time
		path string
	}
	n := perSecond * int(long/time.Second)
	queue, took, errs := make(chan due, n), make([][]float64, connections), make([]error, connections)
	var workers sync.WaitGroup
	for i := range connections {
		workers.Go(func() {
			for d := range queue {
				if err := get(d.path); err != nil {
					errs[i] = errors.Join(errs[i], err)
					continue
				}
				took[i] = append(took[i], float64(time.Since(d.at).Microseconds())/1000)
			}
		})
	}
	start := time.Now()
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(at))
		queue <- due{at, mix[i%len(mix)]}
	}
	close(queue)
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	return all[len(all)*99/100], nil
}
