package protocol

import "time"

// Stats is what the container used until Time, since it began to exist, and what it has now. A nil part cannot be seen.
type Stats struct {
	Time       time.Time
	CPU        *CPUStats
	SystemCPU  time.Duration // of all the machine's processors, idling included
	OnlineCPUs int
	Memory     *MemoryStats
	Pids       *PidsStats
	Block      *BlockStats
	Networks   map[string]NetworkStats // by interface, without loopback
}

// CPUStats is processor time, and how often a limit on it was met.
type CPUStats struct {
	Total, User, System time.Duration
	Periods, Throttled  uint64
	ThrottledTime       time.Duration
}

// MemoryStats is in bytes. Stats is the control group's memory.stat, nil without one; Limit is the machine's memory if the
// container has no other limit.
type MemoryStats struct {
	Usage, MaxUsage uint64
	Limit           uint64
	Failures        uint64
	Stats           map[string]uint64
}

// PidsStats counts threads, as the kernel's limit does. A Limit of 0 is none.
type PidsStats struct{ Current, Limit uint64 }

// BlockStats is what was read from and written to devices.
type BlockStats struct {
	Bytes, Operations []BlockEntry
}

// BlockEntry is one figure of a device.
type BlockEntry struct {
	Major, Minor uint64
	Op           string // "read", "write", and version 1's others
	Value        uint64
}

// NetworkStats is what went over an interface.
type NetworkStats struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}
