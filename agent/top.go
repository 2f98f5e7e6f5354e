package agent

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/user"

	"github.com/sockerless/sockerless/agent/protocol"
)

const (
	// maxCommand bounds a command line in an answer, and maxCommands those of all processes: a process writes what it
	// likes into its own.
	maxCommand  = 32 << 10
	maxCommands = 2 << 20
	leastShown  = 64
)

// top lists the container's processes: what the agent has started, and what these have.
func (a *Agent) top(_ context.Context, req protocol.TopRequest) (protocol.TopResult, error) {
	cols, err := parsePS(req.Args)
	if err != nil {
		return protocol.TopResult{}, err
	}
	if _, err := a.running(); err != nil {
		return protocol.TopResult{}, err
	}
	all, err := a.reaper.processes()
	if err != nil {
		return protocol.TopResult{}, err
	}
	res := protocol.TopResult{Processes: [][]string{}}
	for _, c := range cols {
		res.Titles = append(res.Titles, c.title)
	}
	shared := &psShared{
		now: time.Now(), boot: bootTime(), memory: totalMemory(),
		mostShown: min(maxCommand, max(leastShown, maxCommands/max(1, len(all)))),
		names:     map[string]string{},
	}
	for _, one := range all {
		p := &psProcess{psShared: shared}
		var ok bool
		if p.stat, ok = readStat(one.pid); !ok {
			continue // ended meanwhile
		}
		row := make([]string, len(cols))
		for i, c := range cols {
			row[i] = c.show(p)
		}
		res.Processes = append(res.Processes, row)
	}
	return res, nil
}

// processes returns what the container runs, zombies included: all below the agent but what is on its way to be a
// process of the container and still the agent's program.
func (r *reaper) processes() ([]seen, error) {
	r.mu.Lock() // no fork is under way
	defer r.mu.Unlock()
	all, err := family(os.Getpid())
	if err != nil {
		return nil, err
	}
	kept := all[:0]
	for _, p := range all {
		if c := r.children[p.pid]; c == nil || !c.helper {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

// psProcess is one process as the columns want it. What few of them want is read when it is asked for.
type psProcess struct {
	*psShared
	stat   procStat
	status *procStatus
}

// psShared is the same for all processes of a list.
type psShared struct {
	now       time.Time
	boot      time.Time
	memory    int64
	mostShown int               // of a command line, in bytes
	names     map[string]string // of users and groups, by kind and id
	users     []user.User
	groups    []user.Group
	read      bool // users and groups
}

// Which of a process's ids.
const (
	actual = iota
	effective
	saved
)

func (p *psProcess) ids() *procStatus {
	if p.status == nil {
		p.status = readStatus(p.stat.pid)
	}
	return p.status
}

func (p *psProcess) userName(which int) string  { return p.name("u", p.ids().uid[which]) }
func (p *psProcess) groupName(which int) string { return p.name("g", p.ids().gid[which]) }

// name is what the container's own passwd or group calls an id, or its number.
func (p *psShared) name(kind string, id int) string {
	key := kind + strconv.Itoa(id)
	if name, ok := p.names[key]; ok {
		return name
	}
	if !p.read {
		p.read = true
		users, done := openUsers(passwdFile)
		p.users, _ = user.ParsePasswd(users) // what cannot be read has numbers
		done()
		groups, done := openUsers(groupFile)
		p.groups, _ = user.ParseGroup(groups)
		done()
	}
	name := number(id)
	if kind == "u" {
		for _, u := range p.users {
			if u.Uid == id {
				name = printable(u.Name)
				break
			}
		}
	} else {
		for _, g := range p.groups {
			if g.Gid == id {
				name = printable(g.Name)
				break
			}
		}
	}
	p.names[key] = name
	return name
}

// started is when the process was, or now if that cannot be known.
func (p *psProcess) started() time.Time {
	if p.boot.IsZero() {
		return p.now
	}
	return p.boot.Add(ticks(p.stat.start))
}

func (p *psProcess) age() time.Duration { return max(0, p.now.Sub(p.started())) }

// startDay is ps's STIME.
func (p *psProcess) startDay() string {
	at := p.started()
	switch {
	case at.Year() != p.now.Year():
		return at.Format("2006")
	case at.YearDay() != p.now.YearDay():
		return at.Format("Jan02")
	}
	return at.Format("15:04")
}

func (p *psProcess) cpuTime() time.Duration { return ticks(p.stat.user + p.stat.system) }

func (p *psProcess) cpuShare() float64 {
	if p.age() <= 0 {
		return 0
	}
	return float64(p.cpuTime()) / float64(p.age())
}

func (p *psProcess) resident() int64 { return p.ids().rss }

func (p *psProcess) memoryShare() float64 {
	if p.memory <= 0 {
		return 0
	}
	return float64(p.resident()) / float64(p.memory)
}

// stateFlags is ps's STAT: the state and what is special about the process.
func (p *psProcess) stateFlags() string {
	text := string(p.stat.state)
	if p.stat.nice < 0 {
		text += "<"
	}
	if p.stat.nice > 0 {
		text += "N"
	}
	if p.ids().locked {
		text += "L"
	}
	if p.stat.session == p.stat.pid {
		text += "s"
	}
	if p.stat.threads > 1 {
		text += "l"
	}
	if p.stat.tpgid == p.stat.pgrp {
		text += "+"
	}
	return text
}

// waitsIn is the kernel's function that the process sleeps in, where that may be seen.
func (p *psProcess) waitsIn() string {
	b, err := os.ReadFile(procFile(p.stat.pid, "wchan"))
	if text := strings.TrimSpace(string(b)); err == nil && text != "" && text != "0" {
		return printable(text)
	}
	return "-"
}

// command is the program's name.
func (p *psProcess) command() string { return printable(p.stat.command) }

// commandLine is the arguments, or, where a process has none any more, its name in brackets.
func (p *psProcess) commandLine() string {
	line := readSome(procFile(p.stat.pid, "cmdline"), p.mostShown)
	line = bytes.TrimRight(line, "\x00")
	if len(line) == 0 {
		text := "[" + printable(p.stat.command) + "]"
		if p.stat.state == 'Z' {
			text += " <defunct>"
		}
		return text
	}
	return printable(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
}

// printable replaces what could do something to a terminal, as ps does.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

// readSome reads the beginning of a file; nothing if it cannot be read.
func readSome(path string, most int) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, int64(most))) // what there is
	return b
}
