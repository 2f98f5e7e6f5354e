//go:build linux

package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// talks prints ready and then goes on until a file is there: cases say when what they look at ends. ticks also prints tick
// until then, so that cases see that a client has joined; untick takes that out of the file said.
const (
	talks  = `sh -c 'echo ready; until test -e /tmp/go; do sleep .1; done; echo out; echo err >&2; exit 4'`
	ticks  = `sh -c 'echo ready; until test -e /tmp/go; do echo tick; sleep .1; done; echo out; echo err >&2; exit 4'`
	untick = `sed '/^tick$/d' said`
)

// dit starts what answers what is typed. The client's own terminal echoes nothing: whether it would depends on when the
// client takes it over.
const dit = `stty -echo
	docker run -dit --name $N $IMAGE sh -c 'echo ready; while read a; do echo "got $a"; done' >/dev/null
	logged $N ready
	`

var attachCases = []Case{
	{
		Group: "attach", Name: "joins what runs",
		Script: `docker run -d --name $N $IMAGE ` + ticks + ` >/dev/null
			logged $N tick
			docker attach $N >said & await grep -q tick said
			docker exec $N touch /tmp/go
			wait $!; code=$?; ` + untick + `; exit $code`,
		Want: Answer{Out: "out\n", Err: "err\n", Code: 4},
	},
	{
		Group: "attach", Name: "two clients",
		Script: `docker run -d --name $N $IMAGE ` + ticks + ` >/dev/null
			logged $N tick
			docker attach $N >a 2>&1 & a=$!
			docker attach $N >b 2>&1 & b=$!
			await grep -q tick a
			await grep -q tick b
			docker exec $N touch /tmp/go
			wait $a; echo $?
			wait $b; echo $?
			for said in a b; do cp $said said; ` + untick + ` | sort; done`,
		Want: Answer{Out: "4\n4\nerr\nout\nerr\nout\n"},
	},
	{
		Group: "attach", Name: "stdin",
		Script: `docker run -di --name $N $IMAGE sh -c 'read a; echo "got $a"; exit 5' >/dev/null
			mkfifo in; docker attach $N <in & exec 3>in
			echo words >&3; wait $!`,
		Want: Answer{Out: "got words\n", Code: 5},
	},
	{
		Group: "attach", Name: "--no-stdin",
		Script: `docker run -di --name $N $IMAGE sh -c 'while :; do echo tick; sleep .1; done & read a; echo "got $a"' >/dev/null
			echo words | docker attach --no-stdin $N >said & await grep -q tick said
			sleep 1
			docker kill $N >/dev/null
			wait $!; code=$?; ` + untick + `; exit $code`,
		Want: Answer{Code: 137},
	},
	{
		Group: "attach", Name: "the end of stdin does not end a container's",
		Script: `exec 2>/dev/null
			docker run -di --name $N $IMAGE cat >/dev/null; { echo a
			await grep -q a said; } | timeout -s KILL 10 docker attach $N >said
			cat said
			docker inspect -f '{{.State.Status}}' $N
			docker logs $N`,
		Want: Answer{Out: "a\nrunning\na\n"},
	},
	{
		Group: "attach", Name: "detach keys",
		Script: dit + `echo go; docker attach $N; echo code $?
			docker inspect -f '{{.State.Status}}' $N`, Type: []Keys{{After: "go", Send: "w\r"}, {After: "got w", Send: "\x10\x11"}},
		Want: Answer{Out: "go\r\nw\r\ngot w\r\nread escape sequence\r\ncode 1\r\nrunning\r\n"},
	},
	{
		Group: "attach", Name: "own detach keys",
		Script: dit + `echo go; docker attach --detach-keys=ctrl-a $N; echo code $?
			docker inspect -f '{{.State.Status}}' $N`, Type: []Keys{{After: "go", Send: "w\r"}, {After: "got w", Send: "\x01"}},
		Want: Answer{Out: "go\r\nw\r\ngot w\r\nread escape sequence\r\ncode 1\r\nrunning\r\n"},
	},
	{
		Group: "attach", Name: "detach and attach again",
		Script: dit + `echo go; docker attach $N
			docker attach $N; echo code $?`, Type: []Keys{{After: "go", Send: "w\r"}, {After: "got w", Send: "\x10\x11"}, {After: "read escape sequence", Send: "v\r"}, {After: "got v", Send: "\x04"}},
		Want: Answer{Out: "go\r\nw\r\ngot w\r\nread escape sequence\r\nv\r\ngot v\r\ncode 0\r\n"},
	},
	{
		Group: "attach", Name: "client gets TERM",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "echo term; exit 9" TERM; while :; do echo tick; sleep .1; done' >/dev/null
			logged $N tick
			docker attach $N >said & await grep -q tick said
			kill -TERM $!
			wait $!; code=$?; ` + untick + `; exit $code`,
		Want: Answer{Out: "term\n", Code: 9},
	},
	{
		Group: "attach", Name: "client gets TERM, --sig-proxy=false",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "echo term" TERM; while :; do echo tick; sleep .1; done' >/dev/null
			logged $N tick
			docker attach --sig-proxy=false $N >said & await grep -q tick said
			kill -TERM $!
			sleep 1
			` + untick + `
			docker inspect -f '{{.State.Status}}' $N
			docker kill $N >/dev/null
			wait $!`,
		Want: Answer{Out: "running\n", Code: 137},
	},
	{
		Group: "attach", Name: "a created container",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker attach $N`,
		Want:   Answer{Err: "You cannot attach to a stopped container, start it first\n", Code: 1},
	},
	{
		Group: "attach", Name: "an exited container",
		Script: `docker run --name $N $IMAGE true; docker attach $N`,
		Want:   Answer{Err: "You cannot attach to a stopped container, start it first\n", Code: 1},
	},
	{
		Group: "attach", Name: "no such container",
		Script: `docker attach nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "attach", Name: "16 MB",
		Script: `docker run -di --name $N $IMAGE sh -c 'read a; seq 2222222' >/dev/null
			mkfifo in; docker attach $N <in | sha256sum & exec 3>in
			echo go >&3; wait $!`, // the end of stdin would end the attach
		Want: Answer{Out: "0e11f54db0da60468dcbffdb93474db59fb6fbae7b2753e064beb6898866cc9f  -\n"},
	},

	{
		Group: "attach API", Name: "before the start",
		Want: Answer{Out: "out \"out\\n\", err \"err\\n\"\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			c, err := a.ContainerCreate(ctx, client.ContainerCreateOptions{Name: a.Own, Image: a.Image, Config: &container.Config{Cmd: []string{"sh", "-c", "echo out; echo err >&2"}}})
			if err != nil {
				return "", err
			}
			at, err := a.ContainerAttach(ctx, c.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
			if err != nil {
				return "", err
			}
			defer at.Close()
			if _, err := a.ContainerStart(ctx, c.ID, client.ContainerStartOptions{}); err != nil {
				return "", err
			}
			return framed(at.Reader)
		}},
	{
		Group: "attach API", Name: "what was, by logs without stream",
		Want: Answer{Out: "out \"out\\n\", err \"err\\n\"\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			if _, err := a.Host.Docker(ctx, "run", "--name", a.Own, a.Image, "sh", "-c", "echo out; echo err >&2"); err != nil {
				return "", err
			}
			at, err := a.ContainerAttach(ctx, a.Own, client.ContainerAttachOptions{Logs: true, Stdout: true, Stderr: true})
			if err != nil {
				return "", err
			}
			defer at.Close()
			return framed(at.Reader)
		}},
	{
		Group: "attach API", Name: "only stderr",
		Want: Answer{Out: "out \"\", err \"err\\n\"\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			c, err := a.ContainerCreate(ctx, client.ContainerCreateOptions{Name: a.Own, Image: a.Image, Config: &container.Config{Cmd: []string{"sh", "-c", "echo out; echo err >&2"}}})
			if err != nil {
				return "", err
			}
			at, err := a.ContainerAttach(ctx, c.ID, client.ContainerAttachOptions{Stream: true, Stderr: true})
			if err != nil {
				return "", err
			}
			defer at.Close()
			if _, err := a.ContainerStart(ctx, c.ID, client.ContainerStartOptions{}); err != nil {
				return "", err
			}
			return framed(at.Reader)
		}},
	{
		Group: "attach API", Name: "size set before the start",
		Want: Answer{Out: "stty: standard input\r\n"},
		Ours: &Answer{Out: "11 22\r\n"},
		Why:  "Docker Engine 23 and newer take the size, as we do; 20.10 ignores it",
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			c, err := a.ContainerCreate(ctx, client.ContainerCreateOptions{Name: a.Own, Image: a.Image,
				Config: &container.Config{Tty: true, Cmd: []string{"stty", "size"}}, HostConfig: &container.HostConfig{ConsoleSize: [2]uint{11, 22}}})
			if err != nil {
				return "", err
			}
			at, err := a.ContainerAttach(ctx, c.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
			if err != nil {
				return "", err
			}
			defer at.Close()
			if _, err := a.ContainerStart(ctx, c.ID, client.ContainerStartOptions{}); err != nil {
				return "", err
			}
			out, err := io.ReadAll(at.Reader)
			return string(out), err
		}},
	{
		Group: "attach API", Name: "resize of what does not run",
		Want: Answer{Out: "Error response from daemon: Container ID is not running\n"},
		Ours: &Answer{Out: "<nil>\n"},
		Why:  "the size is kept for the start",
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			c, err := a.ContainerCreate(ctx, client.ContainerCreateOptions{Name: a.Own, Image: a.Image, Config: &container.Config{Tty: true}})
			if err != nil {
				return "", err
			}
			_, err = a.ContainerResize(ctx, c.ID, client.ContainerResizeOptions{Height: 1, Width: 1})
			return fmt.Sprintln(err), nil
		}},
}

// framed returns what both streams carried.
func framed(r io.Reader) (string, error) {
	var out, errs bytes.Buffer
	_, err := stdcopy.StdCopy(&out, &errs, r)
	return fmt.Sprintf("out %q, err %q\n", &out, &errs), err
}

// five makes a container of five lines, the fourth on stderr. What is between them keeps two streams in order.
const five = `docker run --name $N $IMAGE sh -c 'for i in 1 2 3 4 5; do test $i = 4 && echo $i >&2 || echo $i; sleep .3; done' >/dev/null 2>&1; `

var logsCases = []Case{
	{
		Group: "logs", Name: "streams are apart",
		Script: five + `docker logs $N`,
		Want:   Answer{Out: "1\n2\n3\n5\n", Err: "4\n"},
	},
	{
		Group: "logs", Name: "of what runs",
		Script: `docker run -d --name $N $IMAGE sh -c 'echo 1; sleep 1000' >/dev/null; logged $N 1; docker logs $N`,
		Want:   Answer{Out: "1\n"},
	},
	{
		Group: "logs", Name: "of what was never started",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker logs $N`,
		Want:   Answer{},
	},
	{
		Group: "logs", Name: "-f of what was never started",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker logs -f $N`,
		Want:   Answer{},
	},
	{
		Group: "logs", Name: "no such container",
		Script: `docker logs nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "logs", Name: "-n 2",
		Script: five + `docker logs -n 2 $N 2>&1`,
		Want:   Answer{Out: "4\n5\n"},
	},
	{
		Group: "logs", Name: "-n 0",
		Script: five + `docker logs -n 0 $N`,
		Want:   Answer{},
	},
	{
		Group: "logs", Name: "-n all",
		Script: five + `docker logs -n all $N`,
		Want:   Answer{Out: "1\n2\n3\n5\n", Err: "4\n"},
	},
	{
		Group: "logs", Name: "-n -1",
		Script: five + `docker logs -n -1 $N`,
		Want:   Answer{Out: "1\n2\n3\n5\n", Err: "4\n"},
	},
	{
		Group: "logs", Name: "-n of no number",
		Script: five + `docker logs -n x $N`,
		Want:   Answer{Out: "1\n2\n3\n5\n", Err: "4\n"},
	},
	{
		Group: "logs", Name: "-n counts both streams",
		Script: five + `docker logs -n 2 $N 2>/dev/null`,
		Want:   Answer{Out: "5\n"},
	},
	{
		Group: "logs", Name: "-t",
		Script: five + `docker logs -t $N`,
		Want:   Answer{Out: "TIME 1\nTIME 2\nTIME 3\nTIME 5\n", Err: "TIME 4\n"},
	},
	{
		Group: "logs", Name: "-t with -n",
		Script: five + `docker logs -tn 1 $N`,
		Want:   Answer{Out: "TIME 5\n"},
	},
	{
		Group: "logs", Name: "--since in the past and future",
		Script: five + `docker logs --since 1h $N | wc -l; docker logs --since 2099-01-01 $N`,
		Want:   Answer{Out: "4\n", Err: "4\n"},
	},
	{
		Group: "logs", Name: "--until in the past and future",
		Script: five + `docker logs --until 1h $N; docker logs --until 2099-01-01 $N | wc -l`,
		Want:   Answer{Out: "4\n", Err: "4\n"},
	},
	{
		Group: "logs", Name: "--since a record's time",
		Script: five + `docker logs --since $(docker logs -t $N 2>/dev/null | sed -n '2s/ .*//p') $N 2>&1`,
		Want:   Answer{Out: "2\n3\n4\n5\n"},
	},
	{
		Group: "logs", Name: "--until a record's time",
		Script: five + `docker logs --until $(docker logs -t $N 2>/dev/null | sed -n '2s/ .*//p') $N 2>&1`,
		Want:   Answer{Out: "1\n2\n"},
	},
	{
		Group: "logs", Name: "--since and --until with -n",
		Script: five + `t=$(docker logs -t $N 2>/dev/null | sed -n '3s/ .*//p'); docker logs --until $t -n 2 $N 2>&1`,
		Want:   Answer{},
	},
	{
		Group: "logs", Name: "--since of no time",
		Script: five + `docker logs --since x $N`,
		Want:   Answer{Err: "invalid value for \"since\": failed to parse value as time or duration: \"x\"\n", Code: 1},
	},
	{
		Group: "logs", Name: "-f ends with the container",
		Script: `docker run -d --name $N $IMAGE sh -c 'for i in 1 2 3; do echo $i; sleep .5; done; exit 3' >/dev/null
			docker logs -f $N`,
		Want: Answer{Out: "1\n2\n3\n"},
	},
	{
		Group: "logs", Name: "-f of what has ended",
		Script: five + `docker logs -f $N 2>&1`,
		Want:   Answer{Out: "1\n2\n3\n4\n5\n"},
	},
	{
		Group: "logs", Name: "-f -n 0",
		Script: `docker run -d --name $N $IMAGE ` + ticks + ` >/dev/null
			logged $N ready
			docker logs -f -n 0 $N >said & await grep -q tick said
			docker exec $N touch /tmp/go
			wait $!; ` + untick,
		Want: Answer{Out: "out\n", Err: "err\n"},
	},
	{
		Group: "logs", Name: "-f -n 1",
		Script: `docker run -d --name $N $IMAGE ` + talks + ` >/dev/null
			logged $N ready
			docker logs -f -n 1 $N >said & await grep -q ready said
			docker exec $N touch /tmp/go
			wait $!; cat said`,
		Want: Answer{Out: "ready\nout\n", Err: "err\n"},
	},
	{
		Group: "logs", Name: "-f goes with a client that leaves",
		Script: `docker run -d --name $N $IMAGE ` + talks + ` >/dev/null
			docker logs -f $N >said & await grep -q ready said
			kill -INT $!; wait $!`,
		Want: Answer{Code: 130},
	},
	{
		Group: "logs", Name: "-f ends with rm",
		Script: `docker run -d --name $N $IMAGE sh -c 'echo ready
			sleep 1000' >/dev/null
			docker logs -f $N >said & await grep -q ready said
			docker rm -f $N >/dev/null
			wait $!; cat said`,
		Want: Answer{Out: "ready\n"},
	},
	{
		Group: "logs", Name: "-f --until",
		Script: `docker run -d --name $N $IMAGE sh -c 'echo ready
			sleep 1000' >/dev/null
			logged $N ready; timeout 10 docker logs -f --until 1h $N; echo $?`,
		Want: Answer{Out: "124\n"},
		Ours: &Answer{Out: "0\n"},
		Why:  "an until that has passed ends a follow; 20.10 waits for the container",
	},
	{
		Group: "logs", Name: "--details",
		Script: `docker run --name $N --log-opt labels=who --log-opt env=A -l who=me -e A=b $IMAGE echo words
			docker logs --details $N`,
		Want: Answer{Out: "words\nA=b,who=me words\n"},
	},
	{
		Group: "logs", Name: "--details of nothing",
		Script: five + `docker logs --details -n 1 $N`,
		Want:   Answer{Out: " 5\n"},
	},
	{
		Group: "logs", Name: "no newline at the end",
		Script: `docker run --name $N $IMAGE printf 'a\nend' >/dev/null; docker logs $N`,
		Want:   Answer{Out: "a\nend"},
	},
	{
		Group: "logs", Name: "no newline at the end, -t",
		Script: `docker run --name $N $IMAGE printf 'a\nend' >/dev/null; docker logs -t $N`,
		Want:   Answer{Out: "TIME a\nTIME end"},
	},
	{
		Group: "logs", Name: "empty lines",
		Script: `docker run --name $N $IMAGE printf '\n\na\n\n' >/dev/null; docker logs $N; docker logs -n 2 $N | wc -l`,
		Want:   Answer{Out: "\n\na\n\n2\n"},
	},
	{
		Group: "logs", Name: "a partial line and its rest",
		Script: `docker run --name $N $IMAGE sh -c 'printf a; sleep .5; echo b; echo c' >/dev/null
			docker logs -t $N | cut -d' ' -f2
			docker logs -n 1 $N`,
		Want: Answer{Out: "ab\nc\nc\n"},
	},
	{
		Group: "logs", Name: "a partial line is followed",
		Script: `docker run -d --name $N $IMAGE sh -c 'printf "prompt> "; until test -e /tmp/go; do sleep .1; done' >/dev/null
			sleep 1
			docker logs $N | od -c
			docker exec $N touch /tmp/go
			docker wait $N
			docker logs $N`,
		Want: Answer{Out: "0000000\n0\nprompt> "},
	},
	{
		Group: "logs", Name: "a line of 1 MB",
		Script: `docker run --name $N $IMAGE sh -c 'head -c 1000000 /dev/zero | tr "\0" x; echo; echo after' >/dev/null
			docker logs $N | sha256sum
			docker logs -t $N | wc -l
			docker logs -n 1 $N
			docker logs -n 2 $N | wc -c`,
		Want: Answer{Out: "c6b554bdf5da4c3f6c3442b64d218be5848f4c303120c5abbf048e4596304f48  -\n2\nafter\n583\n"},
	},
	{
		Group: "logs", Name: "every byte value",
		Script: `docker run --name $N $IMAGE sh -c "printf '$(printf '\\x%02x' $(seq 0 255))'" >live
			docker logs $N | od -An -tx1`,
		Want: Answer{Out: " 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f\n 20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f\n 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f\n 40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f\n 50 51 52 53 54 55 56 57 58 59 5a 5b 5c 5d 5e 5f\n 60 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f\n 70 71 72 73 74 75 76 77 78 79 7a 7b 7c 7d 7e 7f\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef\n bf bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf\n bd ef bf bd ef bf bd ef bf bd ef bf bd ef bf bd\n"},
		Ours: &Answer{Out: " 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f\n 20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f\n 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f\n 40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f\n 50 51 52 53 54 55 56 57 58 59 5a 5b 5c 5d 5e 5f\n 60 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f\n 70 71 72 73 74 75 76 77 78 79 7a 7b 7c 7d 7e 7f\n 80 81 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f\n 90 91 92 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f\n a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af\n b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 ba bb bc bd be bf\n c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 ca cb cc cd ce cf\n d0 d1 d2 d3 d4 d5 d6 d7 d8 d9 da db dc dd de df\n e0 e1 e2 e3 e4 e5 e6 e7 e8 e9 ea eb ec ed ee ef\n f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff\n"},
		Why:  "what was written is what is read; dockerd's json-file keeps only valid UTF-8",
	},
	{
		Group: "logs", Name: "terminal",
		Script: `docker run -t --name $N $IMAGE sh -c 'echo out; echo err >&2' >/dev/null
			docker logs $N | od -c
			docker logs -t $N`,
		Want: Answer{Out: "0000000   o   u   t  \\r  \\n   e   r   r  \\r  \\n\n0000012\nTIME out\r\nTIME err\r\n"},
	},
	{
		Group: "logs", Name: "100,000 lines",
		Script: `docker run --name $N $IMAGE seq 100000 >/dev/null
			docker logs $N | sha256sum
			docker logs -n 1000 $N | sha256sum`,
		Want: Answer{Out: "b2bc7d3f8b652d2ec96865b68ad8f80e22cca174abe1aed7889e242a747d590f  -\n215d06ab1b015e9302955efaff167c0936cb939309defed19a80eaeed8515206  -\n"},
	},
	{
		Group: "logs", Name: "100,000 lines, followed",
		Script: `docker run -d --name $N $IMAGE seq 100000 >/dev/null; docker logs -f $N | sha256sum`,
		Want:   Answer{Out: "b2bc7d3f8b652d2ec96865b68ad8f80e22cca174abe1aed7889e242a747d590f  -\n"},
	},
	{
		Group: "logs", Name: "of two runs",
		Script: `docker run --name $N $IMAGE echo line; docker start -a $N >/dev/null; docker logs $N`,
		Want:   Answer{Out: "line\nline\nline\n"},
	},
	{
		Group: "logs", Name: "of two runs, -n 1",
		Script: `docker run --name $N $IMAGE sh -c 'echo a; echo b' >/dev/null
			docker start -a $N >/dev/null
			docker logs -n 3 $N`,
		Want: Answer{Out: "b\na\nb\n"},
	},
	{
		Group: "logs", Name: "-f over a restart",
		Script: `docker run -d --name $N $IMAGE sh -c 'echo begin
			sleep 1000' >/dev/null
			logged $N begin
			docker logs -f $N >out & await grep -q begin out
			docker restart -t 0 $N >/dev/null
			await sh -c "test \$(docker logs $N | wc -l) = 2"
			docker logs $N
			docker kill $N >/dev/null
			wait; cat out`,
		Want: Answer{Out: "begin\nbegin\nbegin\n"},
	},
	{
		Group: "logs", Name: "rotation",
		Script: `docker run --name $N --log-opt max-size=100k --log-opt max-file=2 $IMAGE seq 100000 >/dev/null
			docker logs -n 1 $N; n=$(docker logs -n 99999999 $N 2>/dev/null | wc -l); test $n -lt 99999 && echo older are gone`,
		Want: Answer{Out: "100000\nolder are gone\n"},
	},
	{
		Group: "logs", Name: "--log-driver none",
		Script: `docker run --name $N --log-driver none $IMAGE echo a; docker logs $N`,
		Want:   Answer{Out: "a\n", Err: "Error response from daemon: configured logging driver does not support reading\n", Code: 1},
		Ours:   &Answer{Err: "docker: Error response from daemon: cannot use --log-driver=none: logs are kept by the backend, as json-file and local do\n\nRun 'docker run --help' for more information\nError response from daemon: No such container: N\n", Code: 1},
		Why:    "the backend keeps every log",
	},
	{
		Group: "logs", Name: "an exec's output is not in it",
		Script: `docker run -d --name $N $IMAGE sh -c 'echo own
			sleep 1000' >/dev/null
			logged $N own
			docker exec $N echo other
			docker logs $N`,
		Want: Answer{Out: "other\nown\n"},
	},
}
