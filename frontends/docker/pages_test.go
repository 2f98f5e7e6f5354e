package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const pagesDir = "../../docs/commands"

// TestSessionsOfEveryCommand: there is a session of every command and every option that the docker CLI has, and of what
// the command says when it cannot.
func TestSessionsOfEveryCommand(t *testing.T) {
	all := commands(t)
	ran := map[string][]invocation{}
	for _, v := range invocations(t, all) {
		ran[v.command.name] = append(ran[v.command.name], v)
	}
	for _, c := range all {
		runs := ran[c.name]
		var used []string
		works, told, refused := false, false, false
		for _, v := range runs {
			used = append(used, v.options...)
			works = works || !v.fails
			told = told || !v.fails && v.judged
			refused = refused || v.fails && v.judged
		}
		if c.name == "run" { // it has the options of create, which the CLI reads by the same function
			for _, v := range ran["create"] {
				used = append(used, v.options...)
			}
		}
		switch {
		case len(runs) == 0:
			t.Errorf("docker %s: no session", c.name)
			continue
		case works && !told:
			t.Errorf("docker %s: no session looks at what it prints", c.name)
		case !refused:
			t.Errorf("docker %s: no session looks at an error of it", c.name)
		}
		for _, o := range c.options {
			if works && !slices.Contains(used, o.name) {
				t.Errorf("docker %s: no session of --%s", c.name, o.name)
			}
		}
	}
}

// page is a page of docs/commands: what it says, and of which commands.
type page struct {
	file, text string
	commands   []*command
	links      map[string]string // path by label
}

func pages(t *testing.T, all []*command) (found []*page) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pagesDir, "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := &page{file: filepath.Base(file), text: string(text), links: map[string]string{}}
		title, _, _ := strings.Cut(strings.TrimPrefix(p.text, "# "), "\n")
		for name := range strings.SplitSeq(title, ", ") {
			name, isCommand := strings.CutPrefix(name, "docker ")
			if !isCommand {
				continue
			}
			before := len(p.commands)
			for _, c := range all {
				if c.name == name || strings.HasPrefix(c.name, name+" ") {
					p.commands = append(p.commands, c)
				}
			}
			if len(p.commands) == before {
				t.Errorf("%s: its title names %q, which is no command", p.file, name)
			}
		}
		for _, m := range reference.FindAllStringSubmatch(p.text, -1) {
			p.links[m[1]] = filepath.Join(pagesDir, m[2])
		}
		if file := p.file; file != "README.md" && file != "options.md" {
			found = append(found, p)
		}
	}
	return found
}

var (
	reference  = regexp.MustCompile(`(?m)^\[([^\]]+)\]: (\S+)$`)
	optionSpan = regexp.MustCompile("`[^`]*?--([a-z0-9-]+)[^`]*`")
)

// TestPages: every command has one page, which tells of every option and what is different. Each difference ends with the
// name of what shows it: a session in which a command of the page runs, with the options that are spoken of, or a test.
func TestPages(t *testing.T) {
	all := commands(t)
	table, err := os.ReadFile(filepath.Join(pagesDir, "options.md"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(pagesDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sessions := map[string][]invocation{}
	var known []string
	for _, v := range invocations(t, all) {
		sessions[v.session] = append(sessions[v.session], v)
	}
	for _, c := range all {
		for _, o := range c.options {
			known = append(known, o.name)
		}
	}
	tells := map[*command]string{}
	for _, p := range pages(t, all) {
		if !strings.Contains(string(index), "("+p.file+")") {
			t.Errorf("%s is not in README.md", p.file)
		}
		_, differs, ok := strings.Cut(p.text, "\n## Differs from Docker Engine\n")
		if !ok {
			t.Errorf("%s has no section \"Differs from Docker Engine\"", p.file)
		}
		offered := !strings.HasPrefix(strings.TrimSpace(differs), "* Not offered: ")
		for _, c := range p.commands {
			if other := tells[c]; other != "" {
				t.Errorf("docker %s is in %s and in %s", c.name, other, p.file)
			}
			tells[c] = p.file
			for _, o := range c.options {
				of := p.text
				if c.name == "run" || c.name == "create" || c.name == "update" {
					of += string(table)
				}
				if offered && !regexp.MustCompile("`[^`]*--"+o.name+"[^a-z-]").MatchString(of) {
					t.Errorf("%s says nothing of docker %s --%s", p.file, c.name, o.name)
				}
			}
		}
		for _, m := range optionSpan.FindAllStringSubmatch(p.text, -1) {
			// Those of ps are spoken of in top.md.
			if p.file != "top.md" && !slices.Contains(known, m[1]) && m[1] != "driver" && m[1] != "use" {
				t.Errorf("%s speaks of --%s, which no command has", p.file, m[1])
			}
		}
		differs = reference.ReplaceAllString(differs, "")
		for line := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(differs, "\n  ", " ")), "\n") {
			if strings.HasPrefix(line, "* ") || strings.HasPrefix(line, "None that is known.") {
				if err := p.shown(line, sessions); err != nil {
					t.Errorf("%s: %v: %s", p.file, err, line)
				}
			}
		}
		for line := range strings.SplitSeq(p.text, "\n") {
			if example, ok := strings.CutPrefix(line, "    docker "); ok && parse(all, example) == nil {
				t.Errorf("%s has an example that is no command: %s", p.file, line)
			}
		}
	}
	for _, c := range all {
		if tells[c] == "" {
			t.Errorf("docker %s has no page", c.name)
		}
	}
}

// shown says what is wrong with what a difference names as its evidence.
func (p *page) shown(difference string, sessions map[string][]invocation) error {
	at := strings.LastIndex(difference, ". [")
	if i := strings.LastIndex(difference, ": ["); i > at {
		at = i
	}
	if at < 0 || !strings.HasSuffix(difference, "]") {
		return fmt.Errorf("it does not end with what shows it")
	}
	claim := difference[:at]
	var used []string
	onlySessions := true
	for name := range strings.SplitSeq(strings.Trim(difference[at+2:], "[]"), "] [") {
		path := p.links[name]
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("[%s] leads nowhere: %w", name, err)
		}
		if strings.HasPrefix(name, "Test") {
			onlySessions = false
			if !strings.Contains(string(text), "\nfunc "+name+"(t *testing.T) {") {
				return fmt.Errorf("%s has no %s", path, name)
			}
			continue
		}
		ran := false
		for _, v := range sessions[name] {
			if len(p.commands) == 0 || slices.Contains(p.commands, v.command) {
				ran = true
			}
			used = append(used, v.options...)
			for _, arg := range v.args { // those of ps are arguments of top
				used = append(used, strings.TrimPrefix(arg, "--"))
			}
		}
		if !ran {
			return fmt.Errorf("session %s runs no command of the page", name)
		}
	}
	for _, m := range optionSpan.FindAllStringSubmatch(claim, -1) {
		if onlySessions && !slices.Contains(used, m[1]) {
			return fmt.Errorf("the sessions that it names do not use --%s", m[1])
		}
	}
	return nil
}
