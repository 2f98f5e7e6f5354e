//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of the CPU times in /proc: USER_HZ, which is the same everywhere.
const clockTick = 10 * time.Millisecond

// cost is the CPU time, in seconds for 10^9 bytes, of everything that takes part in f: the host's programs, what they have
// started, and the docker CLI. Unlike MB/s it hardly depends on what else the machine does.
func (p *peer) cost(bytes float64, f func() error) (float64, error) {
	seconds, err := p.spent(f)
	return seconds / (bytes / 1e9), err
}

// spent is the CPU time, in seconds, of what cost counts.
func (p *peer) spent(f func() error) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return (after - before).Seconds(), err
}

// cpu is the CPU time of the host's programs and their descendants so far, the ended ones included, and of the CLIs that
// this process has run.
func (p *peer) cpu() (time.Duration, error) {
	var clis syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &clis); err != nil {
		return 0, err
	}
	total := time.Duration(clis.Utime.Nano() + clis.Stime.Nano())
	type process struct {
		parent int
		cpu    time.Duration
	}
	all := map[int]process{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	roots := slices.Clone(p.Pids())
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		// The name in parentheses may hold anything.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if len(fields) < 15 {
			return 0, fmt.Errorf("cannot read %s: %q", file, data)
		}
		one := process{}
		one.parent, _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // its own, and its children's that it has waited for
			n, _ := strconv.Atoi(f)
			one.cpu += time.Duration(n) * clockTick
		}
		all[pid] = one
		// A shim has left dockerd's family.
		if p.docker {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			if strings.Contains(string(line), "containerd-shim") && strings.Contains(string(line), filepath.Dir(strings.TrimPrefix(p.Addr, "unix://"))) {
				roots = append(roots, pid)
			}
		}
	}
	for pid := range all {
		for at := pid; at > 1; at = all[at].parent {
			if slices.Contains(roots, at) {
				total += all[pid].cpu
				break
			}
		}
	}
	return total, nil
}
