package agent

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// column is one of ps's: its name in -o, its title, and what it shows of a process.
type column struct {
	name, title string
	show        func(*psProcess) string
}

// findColumn returns the column of a name.
func findColumn(name string) (column, bool) {
	for _, c := range psColumns {
		for _, n := range strings.Fields(c.name) {
			if n == name {
				c.name = name
				return c, true
			}
		}
	}
	return column{}, false
}

// psColumns are procps's, with all their names. Left out is what makes no sense of a container's processes (threads,
// security labels, scheduling classes).
var psColumns = []column{
	{"pid tgid", "PID", func(p *psProcess) string { return strconv.Itoa(p.stat.pid) }},
	{"ppid", "PPID", func(p *psProcess) string { return strconv.Itoa(p.stat.ppid) }},
	{"pgid", "PGID", func(p *psProcess) string { return strconv.Itoa(p.stat.pgrp) }},
	{"pgrp", "PGRP", func(p *psProcess) string { return strconv.Itoa(p.stat.pgrp) }},
	{"sid", "SID", func(p *psProcess) string { return strconv.Itoa(p.stat.session) }},
	{"sess session", "SESS", func(p *psProcess) string { return strconv.Itoa(p.stat.session) }},
	{"tpgid", "TPGID", func(p *psProcess) string { return strconv.Itoa(p.stat.tpgid) }},

	{"user uname", "USER", func(p *psProcess) string { return p.userName(effective) }},
	{"euser", "EUSER", func(p *psProcess) string { return p.userName(effective) }},
	{"ruser", "RUSER", func(p *psProcess) string { return p.userName(actual) }},
	{"suser", "SUSER", func(p *psProcess) string { return p.userName(saved) }},
	{"uid", "UID", func(p *psProcess) string { return number(p.ids().uid[effective]) }},
	{"euid", "EUID", func(p *psProcess) string { return number(p.ids().uid[effective]) }},
	{"ruid", "RUID", func(p *psProcess) string { return number(p.ids().uid[actual]) }},
	{"suid", "SUID", func(p *psProcess) string { return number(p.ids().uid[saved]) }},
	{"group", "GROUP", func(p *psProcess) string { return p.groupName(effective) }},
	{"egroup", "EGROUP", func(p *psProcess) string { return p.groupName(effective) }},
	{"rgroup", "RGROUP", func(p *psProcess) string { return p.groupName(actual) }},
	{"gid", "GID", func(p *psProcess) string { return number(p.ids().gid[effective]) }},
	{"egid", "EGID", func(p *psProcess) string { return number(p.ids().gid[effective]) }},
	{"rgid", "RGID", func(p *psProcess) string { return number(p.ids().gid[actual]) }},
	{"sgid", "SGID", func(p *psProcess) string { return number(p.ids().gid[saved]) }},

	{"c", "C", func(p *psProcess) string { return strconv.Itoa(int(min(p.cpuShare()*100, 99))) }},
	{"pcpu %cpu", "%CPU", func(p *psProcess) string { return fmt.Sprintf("%.1f", p.cpuShare()*100) }},
	{"cp", "CP", func(p *psProcess) string { return strconv.Itoa(int(min(p.cpuShare()*1000, 999))) }},
	{"pmem %mem", "%MEM", func(p *psProcess) string { return fmt.Sprintf("%.1f", min(p.memoryShare()*100, 99.9)) }},
	{"rsz", "RSZ", func(p *psProcess) string { return strconv.FormatInt(p.resident()>>10, 10) }},
	{"rss rssize", "RSS", func(p *psProcess) string { return strconv.FormatInt(p.resident()>>10, 10) }},
	{"vsz vsize", "VSZ", func(p *psProcess) string { return strconv.FormatUint(p.stat.vsize>>10, 10) }},
	{"sz", "SZ", func(p *psProcess) string {
		return strconv.FormatUint(p.stat.vsize/uint64(unix.Getpagesize()), 10)
	}},
	{"min_flt minflt", "MINFL", func(p *psProcess) string { return strconv.FormatUint(p.stat.minFaults, 10) }},
	{"maj_flt majflt", "MAJFL", func(p *psProcess) string { return strconv.FormatUint(p.stat.majFaults, 10) }},

	{"stime", "STIME", func(p *psProcess) string { return p.startDay() }},
	{"start_time", "START", func(p *psProcess) string { return p.startDay() }},
	{"bsdstart", "START", func(p *psProcess) string {
		if p.now.Sub(p.started()) > 24*time.Hour {
			return p.started().Format("Jan02")
		}
		return p.started().Format("15:04")
	}},
	{"start", "STARTED", func(p *psProcess) string {
		if p.now.Sub(p.started()) > 24*time.Hour {
			return p.started().Format("Jan 02")
		}
		return p.started().Format("15:04:05")
	}},
	{"lstart", "STARTED", func(p *psProcess) string { return p.started().Format(time.ANSIC) }},
	{"etime", "ELAPSED", func(p *psProcess) string { return elapsed(p.age(), false) }},
	{"etimes", "ELAPSED", func(p *psProcess) string { return strconv.Itoa(int(p.age() / time.Second)) }},
	{"time cputime", "TIME", func(p *psProcess) string { return elapsed(p.cpuTime(), true) }},
	{"times cputimes", "TIME", func(p *psProcess) string { return strconv.Itoa(int(p.cpuTime() / time.Second)) }},
	{"bsdtime", "TIME", func(p *psProcess) string {
		s := int(p.cpuTime() / time.Second)
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}},

	{"tname", "TTY", func(p *psProcess) string { return ttyName(p.stat.tty) }},
	{"tty tt", "TT", func(p *psProcess) string { return ttyName(p.stat.tty) }},
	{"s state", "S", func(p *psProcess) string { return string(p.stat.state) }},
	{"stat", "STAT", func(p *psProcess) string { return p.stateFlags() }},
	{"f flag flags", "F", func(p *psProcess) string { return fmt.Sprintf("%o", p.stat.flags>>6&7) }},
	{"ni nice", "NI", func(p *psProcess) string { return strconv.Itoa(p.stat.nice) }},
	{"pri", "PRI", func(p *psProcess) string { return strconv.Itoa(39 - p.stat.priority) }},
	{"priority", "PRI", func(p *psProcess) string { return strconv.Itoa(p.stat.priority) }},
	{"opri", "PRI", func(p *psProcess) string { return strconv.Itoa(60 + p.stat.priority) }},
	{"psr", "PSR", func(p *psProcess) string { return strconv.Itoa(p.stat.processor) }},
	{"nlwp", "NLWP", func(p *psProcess) string { return strconv.Itoa(p.stat.threads) }},
	{"thcount", "THCNT", func(p *psProcess) string { return strconv.Itoa(p.stat.threads) }},
	{"wchan", "WCHAN", func(p *psProcess) string { return p.waitsIn() }},
	{"addr", "ADDR", func(*psProcess) string { return "-" }}, // procps has nothing to say either

	{"args command", "COMMAND", func(p *psProcess) string { return p.commandLine() }},
	{"cmd", "CMD", func(p *psProcess) string { return p.commandLine() }},
	{"comm ucomm", "COMMAND", func(p *psProcess) string { return p.command() }},
	{"ucmd", "CMD", func(p *psProcess) string { return p.command() }},
}

// elapsed is [[days-]hours:]minutes:seconds; the hours are shown in any case if hours is set.
func elapsed(d time.Duration, hours bool) string {
	s := int(d / time.Second)
	text := fmt.Sprintf("%02d:%02d", s/60%60, s%60)
	days, h := s/86400, s/3600%24
	if hours || days > 0 || h > 0 {
		text = fmt.Sprintf("%02d:", h) + text
	}
	if days > 0 {
		text = fmt.Sprintf("%d-", days) + text
	}
	return text
}

// ttyName is the terminal of a device number as /proc/PID/stat has it; proc(5).
func ttyName(device int) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<20|minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}
	return "?"
}

// number is an id, or the "-" of one that cannot be read.
func number(id int) string {
	if id < 0 {
		return "-"
	}
	return strconv.Itoa(id)
}
