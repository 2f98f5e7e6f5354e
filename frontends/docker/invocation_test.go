package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// invocation is a command line of the docker CLI in a session.
type invocation struct {
	session string // file name without .txtar; those of e2e begin with e2e/
	command *command
	options []string // long names
	args    []string // what is neither
	text    string   // the command line as it stands there
	fails   bool     // as the session demands
	judged  bool     // what it prints is looked at
}

var dockerWord = regexp.MustCompile("(^|[\\s(;|&'\"`])docker +")

// invocations returns those of all sessions.
func invocations(t *testing.T, all []*command) (found []invocation) {
	t.Helper()
	for dir, prefix := range map[string]string{"testdata": "", filepath.Join("..", "..", "e2e", "testdata"): "e2e/"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			session := prefix + strings.TrimSuffix(filepath.Base(file), ".txtar")
			lines := strings.Split(string(bytes.ReplaceAll(text, []byte("\\\n"), []byte(" "))), "\n")
			for n, line := range lines {
				if strings.HasPrefix(line, "#") {
					continue
				}
				for _, at := range dockerWord.FindAllStringIndex(line, -1) {
					v := parse(all, line[at[1]:])
					if v == nil {
						continue
					}
					v.session = session
					v.fails = strings.HasPrefix(line, "! ") || strings.HasPrefix(line, "code ") && !strings.HasPrefix(line, "code 0 ")
					if n+1 < len(lines) {
						next := strings.TrimPrefix(lines[n+1], "! ")
						v.judged = strings.HasPrefix(next, "stdout ") || strings.HasPrefix(next, "stderr ") || strings.HasPrefix(next, "cmp ")
					}
					found = append(found, *v)
				}
			}
		}
	}
	return found
}

// parse reads a command line as the docker CLI does, from behind "docker" to where a shell would end it; nil if it is none.
func parse(all []*command, line string) *invocation {
	words, text := shellWords(line)
	for len(words) > 0 && strings.HasPrefix(words[0], "-") { // global options
		take := 1
		if w := words[0]; !strings.Contains(w, "=") && slices.Contains([]string{"-H", "--host", "-c", "--context", "--config", "-l", "--log-level"}, w) {
			take = 2
		}
		words = words[min(take, len(words)):]
	}
	var best *command
	long := 0
	for _, c := range all {
		for _, name := range c.names {
			if n := strings.Count(name, " ") + 1; n > long && n <= len(words) && strings.Join(words[:n], " ") == name {
				best, long = c, n
			}
		}
	}
	if best == nil {
		return nil
	}
	v := &invocation{command: best, text: "docker " + text}
	early := slices.Contains([]string{"run", "create", "exec", "top"}, best.name) // the first argument ends the options
	for words = words[long:]; len(words) > 0; words = words[1:] {
		word := words[0]
		switch {
		case word == "--":
			v.args = append(v.args, words[1:]...)
			return v
		case !strings.HasPrefix(word, "-") || word == "-":
			if v.args = append(v.args, word); early {
				v.args = append(v.args, words[1:]...)
				return v
			}
		default:
			name, _, given := strings.Cut(strings.TrimPrefix(word, "--"), "=")
			if !strings.HasPrefix(word, "--") {
				var wants bool
				if wants = v.short(strings.TrimPrefix(word, "-")); wants && len(words) > 1 {
					words = words[1:]
				}
				continue
			}
			v.options = append(v.options, name)
			i := slices.IndexFunc(best.options, func(o option) bool { return o.name == name })
			if i >= 0 && best.options[i].value && !given && len(words) > 1 {
				words = words[1:]
			}
		}
	}
	return v
}

// short reads options of one letter each and says whether the last one wants the next word.
func (v *invocation) short(letters string) bool {
	for i, letter := range letters {
		at := slices.IndexFunc(v.command.options, func(o option) bool { return o.short == string(letter) })
		if at < 0 {
			return false
		}
		o := v.command.options[at]
		v.options = append(v.options, o.name)
		if o.value {
			return i == len(letters)-1
		}
	}
	return false
}

// shellWords splits a command line where a shell would, up to the end of the command, which it returns too.
func shellWords(line string) (words []string, text string) {
	var word strings.Builder
	var quote rune
	in := false
	for i, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case strings.ContainsRune("|;&)<>`", r):
			if in {
				words = append(words, word.String())
			}
			return words, strings.TrimSpace(line[:i])
		case r == ' ' || r == '\t':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, strings.TrimSpace(line)
}
