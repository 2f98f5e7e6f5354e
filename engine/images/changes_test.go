package images_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/images"
)

func TestChanges(t *testing.T) {
	ports := func(list ...string) network.PortSet {
		out := network.PortSet{}
		for _, p := range list {
			out[network.MustParsePort(p)] = struct{}{}
		}
		return out
	}
	for _, tc := range []struct {
		name    string
		changes []string
		want    container.Config
		err     string
	}{
		{name: "none"},
		{name: "exec form", changes: []string{`CMD ["a", "b c"]`, `ENTRYPOINT ["e"]`}, want: container.Config{Cmd: []string{"a", "b c"}, Entrypoint: []string{"e"}}},
		{name: "shell form", changes: []string{`CMD echo $HOME "x"`}, want: container.Config{Cmd: []string{"/bin/sh", "-c", `echo $HOME "x"`}}},
		{name: "broken JSON is a shell's", changes: []string{`CMD ["a",`}, want: container.Config{Cmd: []string{"/bin/sh", "-c", `["a",`}}},
		{name: "lower case and tabs", changes: []string{"cmd\ttrue"}, want: container.Config{Cmd: []string{"/bin/sh", "-c", "true"}}},
		{name: "comments, empty lines, continued lines", changes: []string{"# hello\n\nENV A=b \\\n  # in between\n  C=d\n"}, want: container.Config{Env: []string{"A=b", "C=d"}}},
		{name: "variables", changes: []string{`ENV A=1 B="two words" C='$A' D=a\ b`, `ENV E=$A-${B}-${X:-none}-${A:+set}-\$A F="$A \" '$A'" A=2`}, want: container.Config{
			Env: []string{"A=2", "B=two words", "C=$A", "D=a b", "E=1-two words-none-set-$A", `F=1 " '1'`},
		}},
		{name: "a variable in the old form", changes: []string{"ENV A  b c"}, want: container.Config{Env: []string{"A=b c"}}},
		{name: "labels", changes: []string{`LABEL a=b "c d"="e f"`}, want: container.Config{Labels: map[string]string{"a": "b", "c d": "e f"}}},
		{name: "ports", changes: []string{"EXPOSE 80 81/UDP 90-92"}, want: container.Config{ExposedPorts: ports("80/tcp", "81/udp", "90/tcp", "91/tcp", "92/tcp")}},
		{name: "user", changes: []string{"USER 1000:1000"}, want: container.Config{User: "1000:1000"}},
		{name: "folders", changes: []string{"WORKDIR /a", "WORKDIR b", "WORKDIR ../c"}, want: container.Config{WorkingDir: "/a/c"}},
		{name: "volumes", changes: []string{`VOLUME ["/a b"]`, "VOLUME /c /d"}, want: container.Config{Volumes: map[string]struct{}{"/a b": {}, "/c": {}, "/d": {}}}},
		{name: "stop signal", changes: []string{"STOPSIGNAL SIGINT"}, want: container.Config{StopSignal: "SIGINT"}},
		{name: "triggers", changes: []string{"ONBUILD RUN a $B"}, want: container.Config{OnBuild: []string{"RUN a $B"}}},
		{name: "health check", changes: []string{"HEALTHCHECK --interval=5s --retries=3 --start-interval=1s CMD curl x"}, want: container.Config{
			Healthcheck: &container.HealthConfig{Test: []string{"CMD-SHELL", "curl x"}, Interval: 5 * time.Second, StartInterval: time.Second, Retries: 3},
		}},
		{name: "health check in exec form", changes: []string{`HEALTHCHECK CMD ["a"]`}, want: container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "a"}}}},
		{name: "no health check", changes: []string{"HEALTHCHECK NONE"}, want: container.Config{Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}}},

		{name: "an instruction of builds", changes: []string{"RUN true"}, err: "RUN is not a valid change command"},
		{name: "an unknown instruction", changes: []string{"FOO"}, err: "FOO is not a valid change command"},
		{name: "nothing to change", changes: []string{"USER"}, err: "USER requires at least one argument"},
		{name: "two users", changes: []string{"USER a b"}, err: "USER: requires exactly one argument"},
		{name: "a name alone", changes: []string{"ENV A"}, err: "ENV: must have two arguments"},
		{name: "no value", changes: []string{"ENV A=b C"}, err: `ENV: can't find = in "C". Must be of the form: name=value`},
		{name: "no name", changes: []string{"LABEL =b"}, err: "LABEL: names can not be blank"},
		{name: "an open quote", changes: []string{`ENV A="b`}, err: "ENV: unexpected end of statement while looking for matching quote"},
		{name: "an open brace", changes: []string{"ENV A=${B"}, err: "ENV: syntax error: missing '}' or name after ${"},
		{name: "an unknown modifier", changes: []string{"ENV A=${B?x}"}, err: "ENV: unsupported modifier (?x) in substitution"},
		{name: "a port that is none", changes: []string{"EXPOSE 70000"}, err: "EXPOSE: invalid containerPort: 70000"},
		{name: "a range from behind", changes: []string{"EXPOSE 9-8"}, err: "EXPOSE: invalid containerPort: 9-8"},
		{name: "a protocol that is none", changes: []string{"EXPOSE 80/http"}, err: "EXPOSE: invalid proto: http"},
		{name: "a signal that is none", changes: []string{"STOPSIGNAL SIGFOO"}, err: "STOPSIGNAL: invalid signal: SIGFOO"},
		{name: "a trigger for a trigger", changes: []string{"ONBUILD ONBUILD RUN x"}, err: "ONBUILD: chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
		{name: "an empty volume", changes: []string{`VOLUME [""]`}, err: "VOLUME: a volume can not be an empty string"},
		{name: "a health check of another type", changes: []string{"HEALTHCHECK HTTP x"}, err: `HEALTHCHECK: unknown type "HTTP" (try CMD)`},
		{name: "a health check too fast", changes: []string{"HEALTHCHECK --interval=1us CMD x"}, err: "HEALTHCHECK: --interval wants a duration of at least 1ms: 1us"},
		{name: "an unknown flag", changes: []string{"HEALTHCHECK --often CMD x"}, err: "HEALTHCHECK: unknown flag: often"},
		{name: "a huge instruction", changes: []string{strings.Repeat("A", 1<<20)}, err: "is not a valid change command"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := images.Changes(tc.changes...)
			if tc.err != "" {
				wantError(t, err, sockerless.EINVALID, tc.err)
				if len(err.Error()) > 1000 {
					t.Fatalf("a message of %d bytes", len(err.Error()))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b network.Port) bool { return a == b })); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// FuzzChanges wants an answer for anything, and a config that JSON can carry.
func FuzzChanges(f *testing.F) {
	for _, s := range []string{
		`ENV A="b $C ${D:-e}" F='g' \` + "\n H=i", "EXPOSE 1-65535/tcp", `CMD ["a"]`, "HEALTHCHECK --retries=1 CMD [\"x\"]",
		"VOLUME [\"\"]", "ENV A ${", "LABEL \"a=b", "# x\nUSER $U", "WORKDIR ${A:+}", "ENV \xff=\xfe",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := images.Changes(s)
		if err != nil {
			if sockerless.ErrorCode(err) != sockerless.EINVALID {
				t.Fatal(err)
			}
			return
		}
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, new(container.Config)); err != nil {
			t.Fatal(err)
		}
	})
}
