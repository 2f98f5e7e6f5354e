package remote_test

import (
	"context"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver/memdriver"
)

// manyContainers is a ContainerService of n containers that costs nothing by itself.
type manyContainers struct {
	sockerless.ContainerService
	one sockerless.Container
	n   int
}

func (m *manyContainers) Find(context.Context, string) (*sockerless.Container, error) {
	return &m.one, nil
}

func (m *manyContainers) List(context.Context, sockerless.ListOptions) iter.Seq2[*sockerless.Container, error] {
	return func(yield func(*sockerless.Container, error) bool) {
		for range m.n {
			if !yield(&m.one, nil) {
				return
			}
		}
	}
}

func (m *manyContainers) ReadTree(context.Context, string, string) (*docker.PathStat, io.ReadCloser, error) {
	return &docker.PathStat{}, io.NopCloser(io.LimitReader(zeros{}, 100<<20)), nil
}

func (m *manyContainers) WriteTree(_ context.Context, _, _ string, _ sockerless.WriteOptions, tar io.Reader) error {
	_, err := io.Copy(io.Discard, tar)
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// BenchmarkRemote measures what the wire adds to a backend that costs nothing.
func BenchmarkRemote(b *testing.B) {
	config := &docker.Config{Image: "shell", Cmd: []string{"sleep", "1000"}, Env: []string{"PATH=/usr/bin:/bin", "A=b"}, Labels: map[string]string{"a": "b", "c": "d"}}
	host := &docker.HostConfig{NetworkMode: "bridge"}
	many := &manyContainers{n: 1000, one: sockerless.Container{
		ID: strings.Repeat("0", 64), Name: "box", Created: time.Now(), Config: config, HostConfig: host, Image: memdriver.Shell.ID, ImageRef: memdriver.Shell.Source,
		State: sockerless.State{Status: docker.StateRunning, StartedAt: time.Now()}, Run: &sockerless.Run{Job: "j", Execution: "e"},
	}}
	for _, way := range ways {
		b.Run(way, func(b *testing.B) {
			r := serve(b, way, &sockerless.Backend{Containers: many})
			c := r.dial(b)
			b.Run("find", func(b *testing.B) {
				for b.Loop() {
					if _, err := c.Containers.Find(b.Context(), "box"); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("list of 1000", func(b *testing.B) {
				for b.Loop() {
					for _, err := range c.Containers.List(b.Context(), sockerless.ListOptions{All: true}) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
			})
			b.Run("read 100 MiB", func(b *testing.B) {
				b.SetBytes(100 << 20)
				for b.Loop() {
					_, tar, err := c.Containers.ReadTree(b.Context(), "box", "/")
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, tar); n != 100<<20 || err != nil {
						b.Fatal(n, err)
					}
					tar.Close()
				}
			})
			b.Run("write 100 MiB", func(b *testing.B) {
				b.SetBytes(100 << 20)
				for b.Loop() {
					if err := c.Containers.WriteTree(b.Context(), "box", "/", sockerless.WriteOptions{}, io.LimitReader(zeros{}, 100<<20)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
