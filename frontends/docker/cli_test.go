package main

import (
	"context"
	"flag"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/cli-28.2 anew, from the docker CLI in $PATH")

// cliVersion is that of the docker CLI whose commands are listed, and cliFile the list: a line of a command's names, and
// one of its options, where = stands for a value.
const (
	cliVersion = "28.2"
	cliFile    = "testdata/cli-" + cliVersion
)

// command is one of the docker CLI's.
type command struct {
	name    string   // its shortest
	names   []string // all of them, without "docker"
	options []option
}

type option struct {
	name, short string // without dashes
	value       bool   // it takes one
}

// commands returns those of the list.
func commands(t *testing.T) []*command {
	t.Helper()
	text, err := os.ReadFile(cliFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []*command
	for line := range strings.Lines(string(text)) {
		words, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "  ")
		if !ok {
			names := strings.Split(words, " = ")
			all = append(all, &command{name: names[0], names: names})
			continue
		}
		c := all[len(all)-1]
		for _, word := range strings.Fields(words) {
			word, value := strings.CutSuffix(word, "=")
			short, name, found := strings.Cut(word, "/")
			if !found {
				short, name = "", word
			}
			c.options = append(c.options, option{strings.TrimPrefix(name, "--"), strings.TrimPrefix(short, "-"), value})
		}
	}
	return all
}

// TestCLI: the list is what the docker CLI's own help says.
func TestCLI(t *testing.T) {
	cli, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("there is no docker CLI in PATH; `make setup-test` installs one")
	}
	if out, err := exec.CommandContext(t.Context(), cli, "--version").Output(); err != nil || !strings.Contains(string(out), " "+cliVersion+".") {
		t.Skipf("the list is of version %s, and the CLI in PATH says %s, %v", cliVersion, out, err)
	}
	t.Parallel()
	found := map[string][]string{} // lines by name
	empty := t.TempDir()           // without plugins, which are commands too
	var walk func(words ...string)
	walk = func(words ...string) {
		text := help(t, cli, empty, words...)
		if more := listed(text); len(more) > 0 {
			for _, word := range more {
				walk(append(slices.Clone(words), word)...)
			}
			return
		}
		names := []string{strings.Join(words, " ")}
		if m := aliases.FindStringSubmatch(text); m != nil {
			names = strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == '\n' })
			for i := range names {
				names[i] = strings.TrimPrefix(strings.TrimSpace(names[i]), "docker ")
			}
		}
		slices.SortStableFunc(names, func(a, b string) int { return strings.Count(a, " ") - strings.Count(b, " ") })
		lines := []string{strings.Join(names, " = ")}
		var options []string
		for _, m := range optionLine.FindAllStringSubmatch(text, -1) {
			o := "--" + m[2]
			if o == "--help" {
				continue
			}
			if m[1] != "" {
				o = "-" + m[1] + "/" + o
			}
			if m[3] != "" {
				o += "="
			}
			options = append(options, o)
		}
		if len(options) > 0 {
			lines = append(lines, "  "+strings.Join(options, " "))
		}
		found[names[0]] = lines
	}
	walk()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(found)) {
		b.WriteString(strings.Join(found[name], "\n") + "\n")
	}
	if *update {
		if err := os.WriteFile(cliFile, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(cliFile); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what this docker CLI says (%v): go test ./frontends/docker -run 'TestCLI$' -update", cliFile, err)
	}
}

var (
	aliases    = regexp.MustCompile(`(?m)^Aliases:\n((?:  .*\n)+)`)
	optionLine = regexp.MustCompile(`(?m)^  (?:-(\w), |    )--([a-z0-9-]+)( [a-zA-Z0-9<>-]+(?: |$))?`)
	below      = regexp.MustCompile(`^  ([a-z-]+)\*? `)
)

func help(t *testing.T, cli, config string, words ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cli, append(slices.Clone(words), "--help")...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config, "DOCKER_HOST=unix:///nonexistent")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s --help: %v", strings.Join(words, " "), err)
	}
	return string(out)
}

// listed returns the commands that a help lists.
func listed(help string) (words []string) {
	in := false
	for line := range strings.Lines(help) {
		switch {
		case strings.HasSuffix(line, "Commands:\n"):
			in = true
		case !strings.HasPrefix(line, " ") && line != "\n":
			in = false
		case in:
			if m := below.FindStringSubmatch(line); m != nil {
				words = append(words, m[1])
			}
		}
	}
	return words
}
