package e2e

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// page is the walk-through.
const page = "../backends/aca/examples/terraform/README.md"

// deployed is the number under which the commands of the backend in Azure are, which come instead of steps 3 and 4.
const deployed = 8

// readSteps reads the commands of the page: what is indented below the heading of each step.
func readSteps(t *testing.T) map[int][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	steps := map[int][]string{}
	step, heading := 0, regexp.MustCompile(`^## (?:Step (\d+):)?`)
	more := false
	for line := range strings.Lines(string(text)) {
		if m := heading.FindStringSubmatch(line); m != nil {
			step, _ = strconv.Atoi(m[1]) // 0: of no step
			if strings.HasPrefix(line, "## Without a machine for the backend") {
				step = deployed
			}
		}
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		switch {
		case !ok:
			more = false
		case step == 0:
			t.Fatalf("the command %q belongs to no step", command)
		case more:
			last := &steps[step][len(steps[step])-1]
			*last += "\n" + command
			more = strings.HasSuffix(command, `\`)
		default:
			steps[step] = append(steps[step], command)
			more = strings.HasSuffix(command, `\`)
		}
	}
	if len(steps) < 7 {
		t.Fatalf("the page has %d steps", len(steps))
	}
	return steps
}

// answers are what a user types while a command of the page waits for it.
var answers = []struct {
	command *regexp.Regexp
	answers []answer
	fails   bool // it is ended by the user, which is no success
}{
	{regexp.MustCompile(`^terraform (apply|destroy)`), []answer{{regexp.MustCompile(`Enter a value:`), "yes\n"}}, false},
	{regexp.MustCompile(`^sockerless prune`), []answer{{regexp.MustCompile(`\[y/N\]`), "y\n"}}, false},
	{regexp.MustCompile(`^docker exec -it`), []answer{{nil, "echo terminal: $((40+2)); tty\n"}, {regexp.MustCompile(`terminal: 42`), "exit\n"}}, false},
	{regexp.MustCompile(`^docker logs -f`), []answer{{nil, "\x03"}}, true},
}

// typed types a command and the answers that it asks for.
func typed(where *shell, command string) (string, error) {
	for _, a := range answers {
		if a.command.MatchString(command) {
			out, err := where.run(command, a.answers)
			if a.fails {
				err = nil
			}
			return out, err
		}
	}
	return where.run(command, nil)
}
