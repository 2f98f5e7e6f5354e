package engine

import (
	"context"
	"iter"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
)

// statsInterval is the time between two measurements, as dockerd has it.
const statsInterval = time.Second

// Stats yields what the container uses.
func (s containerService) Stats(ctx context.Context, ref string, opt sockerless.StatsOptions) iter.Seq2[*docker.StatsResponse, error] {
	return func(yield func(*docker.StatsResponse, error) bool) {
		if opt.Stream && opt.OneShot {
			yield(nil, sockerless.Errorf(sockerless.EINVALID, "cannot have stream=true and one-shot=true"))
			return
		}
		c, err := s.find(ref)
		if err != nil {
			yield(nil, err)
			return
		}
		if opt.Stream && !yield(nil, nil) {
			return
		}
		tick := time.NewTicker(statsInterval)
		defer tick.Stop()
		var before *docker.StatsResponse
		for {
			now, err := c.measure(ctx)
			switch {
			case sockerless.ErrorCode(err) == sockerless.ENOTFOUND:
				return // removed
			case err != nil && (!opt.Stream || ctx.Err() != nil):
				yield(nil, err)
				return
			case err != nil: // the agent is away; it may be back at the next tick
				s.log.Debug("cannot measure a container", "container", c.id, "error", err)
			default:
				if before != nil && !before.Read.IsZero() && !now.Read.IsZero() {
					now.PreRead, now.PreCPUStats = before.Read, before.CPUStats
				}
				// A single answer has a second one's worth of processor time in it, unless there is nothing to wait for.
				last := opt.OneShot || now.Read.IsZero() || before != nil
				if (opt.Stream || last) && !yield(now, nil) || !opt.Stream && last {
					return
				}
				before = now
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			case <-s.ctx.Done():
				yield(nil, closing())
				return
			}
		}
	}
}

// measure asks the agent. A container that does not run has nothing but its names; one that was removed is ENOTFOUND.
func (c *container) measure(ctx context.Context) (*docker.StatsResponse, error) {
	c.mu.Lock()
	out := &docker.StatsResponse{ID: c.id, Name: c.name()}
	removed, r := c.removed, c.run
	if c.rec.Run == nil || c.rec.Run.Stage != stageRunning {
		r = nil
	}
	c.mu.Unlock()
	switch {
	case removed:
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such container: %s", c.id)
	case r == nil:
		return out, nil
	}
	var st protocol.Stats
	err := r.call(ctx, func(a *agent) (err error) {
		st, err = a.client.Stats(a.ctx)
		return err
	})
	if protocol.HasCode(err, protocol.CodeNotRunning) || sockerless.ErrorCode(err) == sockerless.ECONFLICT {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	fill(out, st)
	return out, nil
}

// fill gives figures Docker's form. What the agent has not seen stays away.
func fill(out *docker.StatsResponse, st protocol.Stats) {
	out.Read = st.Time.UTC()
	if cpu := st.CPU; cpu != nil {
		out.CPUStats = docker.CPUStats{
			CPUUsage: docker.CPUUsage{
				TotalUsage: uint64(cpu.Total), UsageInUsermode: uint64(cpu.User), UsageInKernelmode: uint64(cpu.System),
			},
			SystemUsage: uint64(st.SystemCPU),
			OnlineCPUs:  uint32(st.OnlineCPUs),
			ThrottlingData: docker.ThrottlingData{
				Periods: cpu.Periods, ThrottledPeriods: cpu.Throttled, ThrottledTime: uint64(cpu.ThrottledTime),
			},
		}
	}
	if m := st.Memory; m != nil {
		out.MemoryStats = docker.MemoryStats{Usage: m.Usage, MaxUsage: m.MaxUsage, Stats: m.Stats, Failcnt: m.Failures, Limit: m.Limit}
	}
	if p := st.Pids; p != nil {
		out.PidsStats = docker.PidsStats{Current: p.Current, Limit: p.Limit}
	}
	if b := st.Block; b != nil {
		out.BlkioStats = docker.BlkioStats{IoServiceBytesRecursive: entries(b.Bytes), IoServicedRecursive: entries(b.Operations)}
	}
	if st.Networks != nil {
		out.Networks = make(map[string]docker.NetworkStats, len(st.Networks))
		for name, n := range st.Networks {
			out.Networks[name] = docker.NetworkStats{
				RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
				TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
			}
		}
	}
}

func entries(list []protocol.BlockEntry) []docker.BlkioStatEntry {
	if list == nil {
		return nil
	}
	out := make([]docker.BlkioStatEntry, 0, len(list))
	for _, e := range list {
		out = append(out, docker.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
	return out
}
