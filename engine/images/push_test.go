package images_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/images"
)

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		var told []int64
		say := func(m jsonstream.Message) error {
			if m.ID != "abc" || m.Status != "Pushing" || m.Progress.Total != 100 {
				t.Errorf("got %+v", m)
			}
			told = append(told, m.Progress.Current)
			return nil
		}
		err := images.Watch(t.Context(), say, &count, func(context.Context) error {
			for range 4 {
				time.Sleep(200 * time.Millisecond)
				count.Add(25)
			}
			return errors.New("done")
		})
		if diff := cmp.Diff([]int64{25, 50, 75}, told); diff != "" || err == nil || err.Error() != "done" {
			t.Fatal(diff, err)
		}
	})
}

// TestStalledPush: a registry that takes no more bytes does not hold a client for ever.
func TestStalledPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		begin := time.Now()
		err := images.Watch(t.Context(), func(jsonstream.Message) error { return nil }, &count, func(ctx context.Context) error {
			time.Sleep(4 * time.Minute)
			count.Add(1)
			<-ctx.Done()
			return ctx.Err()
		})
		wantError(t, err, sockerless.ETIMEOUT, "registry example.azurecr.io takes no more of layer abc")
		if d := time.Since(begin); d < 9*time.Minute || d > 10*time.Minute {
			t.Fatalf("it took %s", d)
		}
	})
}

// TestUnheardPush: work that nobody listens to ends, and is waited for.
func TestUnheardPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int64
		ended := false
		gone := errors.New("gone")
		err := images.Watch(t.Context(), func(jsonstream.Message) error { return gone }, &count, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return ctx.Err()
		})
		if !errors.Is(err, gone) || !ended {
			t.Fatal(err, ended)
		}
	})
}
