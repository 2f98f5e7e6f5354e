package protocol

import (
	"testing"
	"time"
)

func TestRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		name        string
		policy      RestartPolicy
		code, count int
		want        bool
	}{
		{"no policy", RestartPolicy{}, 1, 0, false},
		{"no", RestartPolicy{Name: "no"}, 1, 0, false},
		{"always after a success", RestartPolicy{Name: "always"}, 0, 1000, true},
		{"unless-stopped", RestartPolicy{Name: "unless-stopped"}, 0, 0, true},
		{"on-failure after a success", RestartPolicy{Name: "on-failure"}, 0, 0, false},
		{"on-failure without a limit", RestartPolicy{Name: "on-failure"}, 1, 1000, true},
		{"the last one", RestartPolicy{"on-failure", 3}, 1, 2, true},
		{"one too many", RestartPolicy{"on-failure", 3}, 1, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.policy.After(c.code, c.count, 0, 0)
			if (got != nil) != c.want || got != nil && got.Count != c.count+1 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestRestartPauses are doubled up to a minute, and begin anew after a run that has lasted.
func TestRestartPauses(t *testing.T) {
	p := RestartPolicy{Name: "always"}
	var pause time.Duration
	for i := range 20 {
		next := p.After(1, i, pause, 9*time.Second)
		want := min(100*time.Millisecond<<i, time.Minute)
		if next.Pause != want {
			t.Errorf("pause %d is %v, want %v", i, next.Pause, want)
		}
		pause = next.Pause
	}
	if next := p.After(1, 20, pause, 10*time.Second); next.Pause != 100*time.Millisecond {
		t.Errorf("after 10 s the pause is %v", next.Pause)
	}
}
