package agent

import (
	"strings"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// psArgs is what the arguments of a ps ask for: which columns. Which processes is not theirs to say, as with dockerd, which
// gives ps the container's pids: the options that select (-e, -A, a, x...) add nothing to them.
type psArgs struct {
	unix string   // the options -f, -F, -l, -j and -y that were given
	bsd  byte     // u, l or j; 0: none
	own  []column // of -o
}

// maxColumns bounds an answer; ps has fewer kinds.
const maxColumns = 64

// parsePS reads the arguments of a ps as procps does: options in the Unix style, in BSD's, and --format. What is not
// understood is refused by name.
func parsePS(text string) ([]column, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		words = []string{"-ef"}
	}
	var p psArgs
	for len(words) > 0 {
		var err error
		if words, err = p.word(words); err != nil {
			return nil, err
		}
	}
	return p.columns()
}

// word reads the first word, and the next one if that is its value. It returns what is left.
func (p *psArgs) word(words []string) ([]string, error) {
	word, rest := words[0], words[1:]
	switch {
	case strings.HasPrefix(word, "--"):
		name, value, given := strings.Cut(word[2:], "=")
		if name != "format" {
			return nil, refusedOption("--" + name)
		}
		if !given {
			return p.format(rest)
		}
		return rest, p.addFormat(value)
	case strings.HasPrefix(word, "-"):
		before := *p
		left, err := p.letters(word[1:], rest, (*psArgs).unixOption, "-")
		if err == nil {
			return left, nil
		}
		// `ps -aux` is BSD's to everybody, and to procps too.
		unix := *p
		*p = before
		if left, bsdErr := p.letters(word[1:], rest, (*psArgs).bsdOption, ""); bsdErr == nil {
			return left, nil
		}
		*p = unix
		return nil, err
	}
	return p.letters(word, rest, (*psArgs).bsdOption, "")
}

// letters reads a group of one-letter options.
func (p *psArgs) letters(group string, rest []string, option func(*psArgs, byte) bool, prefix string) ([]string, error) {
	if group == "" {
		return nil, refusedOption("-")
	}
	for i := range len(group) {
		c := group[i]
		if c == 'o' {
			if i+1 < len(group) {
				return rest, p.addFormat(group[i+1:])
			}
			return p.format(rest)
		}
		if !option(p, c) {
			if c < ' ' || c > '~' {
				return nil, refusedOption(prefix + group)
			}
			return nil, refusedOption(prefix + string(c))
		}
	}
	return rest, nil
}

func (p *psArgs) unixOption(c byte) bool {
	switch c {
	case 'A', 'a', 'd', 'e', 'w': // all processes; as wide as it gets
	case 'F', 'f', 'j', 'l', 'y':
		if !strings.Contains(p.unix, string(c)) {
			p.unix += string(c)
		}
	default:
		return false
	}
	return true
}

func (p *psArgs) bsdOption(c byte) bool {
	switch c {
	case 'a', 'g', 'w', 'x': // as above
	case 'j', 'l', 'u':
		if p.bsd != 0 && p.bsd != c {
			return false
		}
		p.bsd = c
	default:
		return false
	}
	return true
}

// format takes the next word as the value of -o.
func (p *psArgs) format(rest []string) ([]string, error) {
	if len(rest) == 0 {
		return nil, wire.Errorf(protocol.CodeInvalid, "ps: format specification must follow -o")
	}
	return rest[1:], p.addFormat(rest[0])
}

// addFormat reads names with or without a header: pid,comm=NAME.
func (p *psArgs) addFormat(list string) error {
	for _, one := range strings.Split(list, ",") {
		name, title, titled := strings.Cut(one, "=")
		c, ok := findColumn(name)
		if !ok {
			return wire.Errorf(protocol.CodeInvalid, "ps: unknown user-defined format specifier %q", name)
		}
		if titled {
			c.title = title
		}
		// dockerd's own rule: it finds the container's processes in the output by this title.
		if titled && strings.HasPrefix(title, "PID") && name != "pid" {
			return wire.Errorf(protocol.CodeInvalid, "specifying %q is not allowed", one)
		}
		if p.own = append(p.own, c); len(p.own) > maxColumns {
			return wire.Errorf(protocol.CodeInvalid, "ps: more than %d columns", maxColumns)
		}
	}
	return nil
}

// columns is the result.
func (p *psArgs) columns() ([]column, error) {
	formats := 0
	for _, given := range []bool{p.unix != "", p.bsd != 0, p.own != nil} {
		if given {
			formats++
		}
	}
	if formats > 1 {
		return nil, wire.Errorf(protocol.CodeInvalid, "ps: conflicting format options")
	}
	var cols []column
	switch {
	case p.own != nil:
		cols = p.own
	case p.bsd != 0:
		cols = named(map[byte]string{
			'u': "user pid pcpu pmem vsz rss tname stat bsdstart bsdtime args",
			'l': "f uid pid ppid priority ni vsz rss wchan stat tname bsdtime args",
			'j': "ppid pid pgid sid tname tpgid stat uid bsdtime args",
		}[p.bsd])
	default:
		cols = p.unixColumns()
	}
	for _, c := range cols {
		if c.title == "PID" {
			return cols, nil
		}
	}
	return nil, wire.Errorf(protocol.CodeInvalid, "Couldn't find PID field in ps output")
}

// unixColumns combines -f, -F, -l, -j and -y as procps does.
func (p *psArgs) unixColumns() []column {
	has := func(c string) bool { return strings.Contains(p.unix, c) }
	extra, long := has("F"), has("l")
	full := has("f") || extra
	var names []string
	add := func(when bool, list ...string) {
		if when {
			names = append(names, list...)
		}
	}
	add(long && !has("y"), "f")
	add(long, "s")
	add(full, "uname") // its title is UID there
	add(long && !full, "uid")
	add(true, "pid")
	add(full || long, "ppid")
	add(has("j"), "pgid", "sid")
	add(full || long, "c")
	add(long, "opri", "ni")
	add(long && has("y"), "rss")
	add(long && !has("y"), "addr")
	add(long, "sz", "wchan")
	add(extra && !long, "sz")
	add(extra, "rss", "psr")
	add(full, "stime")
	add(true, "tname", "time")
	add(full, "cmd")
	add(!full, "ucmd")
	cols := named(strings.Join(names, " "))
	for i := range cols {
		if cols[i].name == "uname" {
			cols[i].title = "UID"
		}
	}
	return cols
}

// named returns columns that there are.
func named(list string) []column {
	var cols []column
	for _, name := range strings.Fields(list) {
		c, _ := findColumn(name)
		cols = append(cols, c)
	}
	return cols
}

func refusedOption(option string) error {
	return wire.Errorf(protocol.CodeInvalid,
		"cannot use the ps option %q: the agent lists processes itself and knows -e -A -a -d -f -F -l -j -y -w -o, a x g w u l j o and --format", option)
}
