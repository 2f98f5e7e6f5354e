//go:build linux

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

var execCases = []Case{
	{
		Group: "exec", Name: "streams are apart",
		Script: `docker exec $BOX sh -c 'echo out; echo err >&2'`,
		Want:   Answer{Out: "out\n", Err: "err\n"},
	},
	{
		Group: "exec", Name: "exit code",
		Script: `docker exec $BOX sh -c 'exit 3'`,
		Want:   Answer{Code: 3},
	},
	{
		Group: "exec", Name: "highest exit code",
		Script: `docker exec $BOX sh -c 'exit 255'`,
		Want:   Answer{Code: 255},
	},
	{
		Group: "exec", Name: "killed by KILL",
		Script: `docker exec $BOX sh -c 'kill -9 $$'`,
		Want:   Answer{Code: 137},
	},
	{
		Group: "exec", Name: "killed by TERM",
		Script: `docker exec $BOX sh -c 'kill -15 $$'`,
		Want:   Answer{Code: 143},
	},
	{
		Group: "exec", Name: "no such command",
		Script: `docker exec $BOX nosuch`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown\r\n", Code: 126},
		Ours:   &Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown\r\n", Code: 127},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "exec", Name: "no such path",
		Script: `docker exec $BOX /no/such`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory: unknown\r\n", Code: 126},
		Ours:   &Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory: unknown\r\n", Code: 127},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "exec", Name: "a folder",
		Script: `docker exec $BOX /etc`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/etc\": permission denied: unknown\r\n", Code: 126},
		Ours:   &Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/etc\": is a directory: unknown\r\n", Code: 126},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "exec", Name: "not executable",
		Script: `docker exec $BOX /etc/passwd`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/etc/passwd\": permission denied: unknown\r\n", Code: 126},
	},
	{
		Group: "exec", Name: "no interpreter",
		Script: `docker exec $BOX nointerpreter`,
		Want:   Answer{Err: "exec /bin/nointerpreter: no such file or directory\n", Code: 1},
		Ours:   &Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec /bin/nointerpreter: no such file or directory: unknown\r\n", Code: 127},
		Why:    "the kernel's refusal is known before the start is answered, so it is told as the start's error and not as the command's output",
	},
	{
		Group: "exec", Name: "no format",
		Script: `docker exec $BOX noformat`,
		Want:   Answer{Err: "exec /bin/noformat: exec format error\n", Code: 1},
		Ours:   &Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec /bin/noformat: exec format error: unknown\r\n", Code: 126},
		Why:    "the kernel's refusal is known before the start is answered, so it is told as the start's error and not as the command's output",
	},
	{
		Group: "exec", Name: "arguments as they are",
		Script: `docker exec $BOX printf '[%s]' '' 'a b' $'c\nd' '"e"' '$HOME' '*'`,
		Want:   Answer{Out: "[][a b][c\nd][\"e\"][$HOME][*]"},
	},
	{
		Group: "exec", Name: "no arguments",
		Script: `docker exec $BOX`,
		Want:   Answer{Err: "docker: 'docker exec' requires at least 2 arguments\n\nUsage:  docker exec [OPTIONS] CONTAINER COMMAND [ARG...]\n\nSee 'docker exec --help' for more information\n", Code: 1},
	},
	{
		Group: "exec", Name: "empty command",
		Script: `docker exec $BOX ''`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"\": executable file not found in $PATH: unknown\r\n", Code: 126},
		Ours:   &Answer{Out: "no command specified\r\n", Code: 126},
		Why:    "the same refusal in the words of an exec without a command",
	},

	{
		Group: "exec", Name: "stdin",
		Script: `docker exec -i $BOX sort`, Stdin: "b\na\n",
		Want: Answer{Out: "a\nb\n"},
	},
	{
		Group: "exec", Name: "stdin without -i",
		Script: `docker exec $BOX cat`, Stdin: "b\na\n",
		Want: Answer{},
	},
	{
		Group: "exec", Name: "empty stdin",
		Script: `docker exec -i $BOX wc -c </dev/null`,
		Want:   Answer{Out: "0\n"},
	},
	{
		Group: "exec", Name: "output after the end of stdin",
		Script: `docker exec -i $BOX sh -c 'cat; sleep 1; echo late; exit 4'`, Stdin: "early\n",
		Want: Answer{Out: "early\nlate\n", Code: 4},
	},
	{
		Group: "exec", Name: "stdin that nobody reads",
		Script: `head -c 10000000 /dev/zero | docker exec -i $BOX sh -c 'exit 5'`,
		Want:   Answer{Code: 5},
	},
	{
		Group: "exec", Name: "endless stdin",
		Script: `docker exec -i $BOX head -n 2 < <(yes)`,
		Want:   Answer{Out: "y\ny\n"},
	},
	{
		Group: "exec", Name: "stdin kept open",
		Script: `docker exec -i $BOX sh -c 'exit 5' < <(exec sleep 100 >/dev/null 2>&1)`,
		Want:   Answer{Code: 5},
	},
	{
		Group: "exec", Name: "every byte value, both ways",
		Script: `printf "$(printf '\\x%02x' $(seq 0 255))" >all; docker exec -i $BOX cat <all | cmp - all && sha256sum <all`,
		Want:   Answer{Out: "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880  -\n"},
	},
	{
		Group: "exec", Name: "one line of 1 MB",
		Script: `head -c 1000000 /dev/zero | tr '\0' x | docker exec -i $BOX cat | sha256sum`,
		Want:   Answer{Out: "1b977e9f84f1b26b6ed7f68b0498faee2385ea4125bd29adce4a7d9106ba3134  -\n"},
	},
	{
		Group: "exec", Name: "55 MB out",
		Script: `docker exec $BOX seq 7000000 | sha256sum`,
		Want:   Answer{Out: "2e54dad1f9af06eadf5b5d0596bf55f93ebf5cc6750d0d2772a4089ae5045ec4  -\n"},
	},
	{
		Group: "exec", Name: "55 MB in",
		Script: `seq 7000000 | docker exec -i $BOX sha256sum`,
		Want:   Answer{Out: "2e54dad1f9af06eadf5b5d0596bf55f93ebf5cc6750d0d2772a4089ae5045ec4  -\n"},
	},
	{
		Group: "exec", Name: "16 MB there and back",
		Script: `seq 2222222 | docker exec -i $BOX cat | sha256sum`,
		Want:   Answer{Out: "0e11f54db0da60468dcbffdb93474db59fb6fbae7b2753e064beb6898866cc9f  -\n"},
	},
	{
		Group: "exec", Name: "both streams, 4 MB each",
		Script: `docker exec $BOX sh -c 'seq 600000 & seq 600000 >&2; wait' 2>err | sha256sum; sha256sum <err`,
		Want:   Answer{Out: "32b004e0f430387b32fdc16b487c4e5fbb689ba8b4eccc20807f318926f2bf4c  -\n32b004e0f430387b32fdc16b487c4e5fbb689ba8b4eccc20807f318926f2bf4c  -\n"},
	},
	{
		Group: "exec", Name: "no newline at the end",
		Script: `docker exec $BOX printf end`,
		Want:   Answer{Out: "end"},
	},
	{
		Group: "exec", Name: "output closed by the client",
		Script: `docker exec $BOX sh -c 'yes; echo "$?" >/tmp/'$N | head -n 1; echo gone`,
		Want:   Answer{Out: "y\ngone\n"},
	},
	{
		Group: "exec", Name: "twenty at once",
		Script: `for i in $(seq 20); do docker exec $BOX sh -c "echo $i; exit $i" >out$i || echo $? >code$i & done
			wait; cat out* | sort -n | tr '\n' ' '; cat code* | sort -n | tr '\n' ' '`,
		Want: Answer{Out: "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 "},
	},
	{
		Group: "exec", Name: "ten exit codes",
		Script: `for i in 1 2 64 125 126 127 128 129 200 254; do docker exec $BOX sh -c "exit $i"; test $? = $i || echo wrong: $i; done`,
		Want:   Answer{},
	},
	{
		Group: "exec", Name: "a child that keeps the output",
		Script: `docker exec $BOX sh -c '(sleep .5; echo late) & echo early'`,
		Want:   Answer{Out: "early\nlate\n"},
	},
	{
		Group: "exec", Name: "a child that keeps the output for long",
		Script: `docker exec $BOX sh -c '(sleep 8; echo late) & echo early'`,
		Want:   Answer{Out: "early\n"},
	},

	{
		Group: "exec", Name: "-e",
		Script: `docker exec -e A=b -e EMPTY= -e FROM_CLIENT -e UNSET $BOX sh -c 'echo "$A|$EMPTY|$FROM_CLIENT|${UNSET-unset}"'`,
		Want:   Answer{Out: "b||client's|unset\n"},
	},
	{
		Group: "exec", Name: "--env-file",
		Script: `printf '# comment\nA=b c\nFROM_CLIENT\nQ="q"\n' >file
			docker exec --env-file file -e A2=2 $BOX sh -c 'echo "$A|$FROM_CLIENT|$Q|$A2"'`,
		Want: Answer{Out: "b c|client's|\"q\"|2\n"},
	},
	{
		Group: "exec", Name: "environment",
		Script: `docker exec $BOX env | grep -v ^HOSTNAME= | sort`,
		Want:   Answer{Out: "HOME=/root\nPATH=/bin\n"},
	},
	{
		Group: "exec", Name: "environment on a terminal",
		Script: `docker exec -t $BOX sh -c 'echo $TERM'`, Type: []Keys{},
		Want: Answer{Out: "xterm\r\r\n"},
	},
	{
		Group: "exec", Name: "-e over the image's",
		Script: `docker exec -e PATH=/nothing $BOX /bin/sh -c 'echo $PATH'`,
		Want:   Answer{Out: "/nothing\n"},
	},
	{
		Group: "exec", Name: "-w",
		Script: `docker exec -w /data/sub $BOX pwd`,
		Want:   Answer{Out: "/data/sub\n"},
	},
	{
		Group: "exec", Name: "-w that is not there",
		Script: `docker exec -w /no/such $BOX pwd`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd (\"/no/such\") set in config.json failed: no such file or directory: unknown\r\n", Code: 126},
	},
	{
		Group: "exec", Name: "-w that is a file",
		Script: `docker exec -w /etc/passwd $BOX pwd`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type\r\n", Code: 126},
		Ours:   &Answer{Out: "OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory: unknown\r\n", Code: 126},
		Why:    "dockerd's advice on mounts does not apply here",
	},
	{
		Group: "exec", Name: "-w that is relative",
		Script: `docker exec -w data $BOX pwd`,
		Want:   Answer{Out: "OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown\r\n", Code: 126},
		Ours:   &Answer{Out: "the working directory \"data\" is invalid, it needs to be an absolute path\r\n", Code: 126},
		Why:    "the same refusal in the words that `docker run -w` has",
	},
	{
		Group: "exec", Name: "working directory",
		Script: `docker exec $BOX pwd`,
		Want:   Answer{Out: "/\n"},
	},
	{
		Group: "exec", Name: "-u name",
		Script: `docker exec -u app $BOX sh -c 'id; echo $HOME'`,
		Want:   Answer{Out: "uid=1000(app) gid=1000(app) groups=29(audio),100(users),1000(app)\n/home/app\n"},
	},
	{
		Group: "exec", Name: "-u uid",
		Script: `docker exec -u 1000 $BOX id`,
		Want:   Answer{Out: "uid=1000(app) gid=1000(app) groups=29(audio),100(users),1000(app)\n"},
	},
	{
		Group: "exec", Name: "-u name:group",
		Script: `docker exec -u app:audio $BOX id`,
		Want:   Answer{Out: "uid=1000(app) gid=29(audio) groups=29(audio)\n"},
	},
	{
		Group: "exec", Name: "-u uid:gid that nobody has",
		Script: `docker exec -u 1234:5678 $BOX sh -c 'id; echo $HOME'`,
		Want:   Answer{Out: "uid=1234 gid=5678 groups=5678\n/\n"},
	},
	{
		Group: "exec", Name: "-u :group",
		Script: `docker exec -u :audio $BOX id`,
		Want:   Answer{Out: "uid=0(root) gid=29(audio) groups=29(audio)\n"},
	},
	{
		Group: "exec", Name: "-u nosuch",
		Script: `docker exec -u nosuch $BOX id`,
		Want:   Answer{Out: "unable to find user nosuch: no matching entries in passwd file\r\n", Code: 126},
	},
	{
		Group: "exec", Name: "-u app:nosuch",
		Script: `docker exec -u app:nosuch $BOX id`,
		Want:   Answer{Out: "unable to find group nosuch: no matching entries in group file\r\n", Code: 126},
	},
	{
		Group: "exec", Name: "-u of a file that is not its own",
		Script: `docker exec -u nobody $BOX cat /data/file`,
		Want:   Answer{Err: "cat: can't open '/data/file': Permission denied\n", Code: 1},
	},
	{
		Group: "exec", Name: "default user",
		Script: `docker exec $BOX id`,
		Want:   Answer{Out: "uid=0(root) gid=0(root) groups=0(root)\n"},
	},

	{
		Group: "exec", Name: "terminal",
		Script: `docker exec -t $BOX sh -c 'tty | cut -c1-9; echo err >&2; until stty size 2>/dev/null | grep 24; do sleep .1; done'`, Type: []Keys{},
		Want: Answer{Out: "/dev/pts/\r\r\nerr\r\r\n24 80\r\r\n"},
	},
	{
		Group: "exec", Name: "-t without a terminal",
		Script: `docker exec -t $BOX sh -c 'test -t 1 && echo terminal'`,
		Want:   Answer{Out: "terminal\r\n"},
	},
	{
		Group: "exec", Name: "-it without a terminal",
		Script: `docker exec -it $BOX true`,
		Want:   Answer{Err: "the input device is not a TTY\n", Code: 1},
	},
	{
		Group: "exec", Name: "typed words",
		Script: `docker exec -it $BOX sh -c 'echo ready; read a; echo "got $a"; exit 7'`, Type: []Keys{{After: "ready", Send: "words\r"}},
		Want: Answer{Out: "ready\r\nwords\r\ngot words\r\n", Code: 7},
	},
	{
		Group: "exec", Name: "typed end of input",
		Script: `docker exec -it $BOX sh -c 'echo ready; cat; echo end'`, Type: []Keys{{After: "ready\r\n", Send: "a\r"}, {After: "a\r\na\r\n", Send: "\x04"}},
		Want: Answer{Out: "ready\r\na\r\na\r\nend\r\n"},
	},
	{
		Group: "exec", Name: "typed ctrl-c",
		Script: `docker exec -it $BOX sh -c 'trap "echo int; exit 9" INT; echo ready; while :; do sleep .1; done'`, Type: []Keys{{After: "ready", Send: "\x03"}},
		Want: Answer{Out: "ready\r\n^Cint\r\n", Code: 9},
	},
	{
		Group: "exec", Name: "typed ctrl-c, default action",
		Script: `docker exec -it $BOX sh -c 'echo ready; exec sleep 1000'; echo code $?`, Type: []Keys{{After: "ready", Send: "\x03"}},
		Want: Answer{Out: "ready\r\n^Ccode 130\r\n"},
	},
	{
		Group: "exec", Name: "detach keys",
		Script: `docker exec -it $BOX sh -c 'echo ready; cat'; echo code $?`, Type: []Keys{{After: "ready", Send: "\x10\x11"}},
		Want: Answer{Out: "ready\r\nread escape sequence\r\ncode 1\r\n"},
	},
	{
		Group: "exec", Name: "own detach keys",
		Script: `docker exec --detach-keys ctrl-x,x -it $BOX sh -c 'echo ready; cat'; echo code $?`, Type: []Keys{{After: "ready", Send: "\x18x"}},
		Want: Answer{Out: "ready\r\nread escape sequence\r\ncode 1\r\n"},
	},
	{
		Group: "exec", Name: "half of the detach keys",
		Script: `docker exec -it $BOX sh -c 'stty raw -echo; echo ready; head -c 2 | od -An -tx1'`, Type: []Keys{{After: "ready", Send: "\x10a"}},
		Want: Answer{Out: "ready\n 10 61\n"},
	},
	{
		Group: "exec", Name: "resize",
		Script: `docker exec -it $BOX sh -c 'trap "stty size | grep 33 && exit" WINCH; ` + minded + `; echo ready; while :; do sleep .1; done'`, Type: []Keys{{After: "ready", Rows: 33, Cols: 99}},
		Want: Answer{Out: "ready\r\n33 99\r\n"},
	},
	{
		Group: "exec", Name: "16 MB on a terminal",
		Script: `docker exec -t $BOX seq 1000000 | tr -d '\r' | sha256sum`,
		Want:   Answer{Out: "90433fcbd9e16297e6a7c1dacb1056394743194776e52f78ebf0a44b80b6b14f  -\n"},
	},

	{
		Group: "exec", Name: "-d",
		Script: `docker exec -d $BOX sh -c "echo mark >/tmp/$N"
			await docker exec $BOX test -s /tmp/$N
			docker exec $BOX cat /tmp/$N`,
		Want: Answer{Out: "mark\n"},
	},
	{
		Group: "exec", Name: "-d of no such command",
		Script: `docker exec -d $BOX nosuch`,
		Want:   Answer{Err: "Error response from daemon: OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown\n", Code: 1},
	},
	{
		Group: "exec", Name: "no such container",
		Script: `docker exec nosuch true`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "exec", Name: "in a created container",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker exec $N true`,
		Want:   Answer{Err: "Error response from daemon: Container ID is not running\n", Code: 1},
	},
	{
		Group: "exec", Name: "in an exited container",
		Script: `docker run --name $N $IMAGE true; docker exec $N true`,
		Want:   Answer{Err: "Error response from daemon: Container ID is not running\n", Code: 1},
	},
	{
		Group: "exec", Name: "ends with its container",
		Script: `docker run -d --name $N $IMAGE sleep 1000 >/dev/null
			docker exec $N sh -c 'echo ready; exec sleep 1000' >said & await grep -q ready said
			docker kill $N >/dev/null
			wait $!`,
		Want: Answer{Code: 137},
	},
	{
		Group: "exec", Name: "client is killed",
		Script: `exec 2>/dev/null; docker exec $BOX sh -c 'echo ready; exec sleep 4321' >said & await grep -q ready said
			kill -9 $!
			wait $! 2>/dev/null
			sleep 1
			docker exec $BOX sh -c 'kill $(ps -o pid,args | grep "[s]leep 4321" | sed "s/^ *//; s/ .*//")' && echo went on`,
		Want: Answer{Out: "went on\n"},
	},
	{
		Group: "exec", Name: "client gets TERM",
		Script: `docker exec $BOX sh -c 'echo ready; exec sleep 4322' >said & await grep -q ready said
			kill -TERM $!
			wait $!; echo code $?
			docker exec $BOX sh -c 'kill $(ps -o pid,args | grep "[s]leep 4322" | sed "s/^ *//; s/ .*//")' && echo went on`,
		Want: Answer{Out: "code 0\nwent on\n"},
	},
	{
		Group: "exec", Name: "orphans are reaped",
		Script: `docker run -d --name $N $IMAGE sleep 1000 >/dev/null
			docker exec $N sh -c '(sleep .3 &) ; exit 0'
			sleep 1
			docker exec $N ps -o stat | grep -c Z; true`,
		Want: Answer{Out: "1\n"},
		Ours: &Answer{Out: "0\n"},
		Why:  "the agent reaps; in Docker that is up to the container's pid 1, here a sleep that does not",
	},

	{
		Group: "exec API", Name: "inspect while it runs, and after",
		Want: Answer{Out: "running false, code 0, pid false, <nil>\nrunning true, code 0, pid true, <nil>\nrunning false, code 6, pid true, <nil>\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			e, err := a.ExecCreate(ctx, a.Box, client.ExecCreateOptions{AttachStdin: true, AttachStdout: true, Cmd: []string{"sh", "-c", "cat; exit 6"}})
			if err != nil {
				return "", err
			}
			said := func() string {
				r, err := a.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
				return fmt.Sprintf("running %t, code %d, pid %t, %v\n", r.Running, r.ExitCode, r.PID > 0, err)
			}
			text := said()
			at, err := a.ExecAttach(ctx, e.ID, client.ExecAttachOptions{})
			if err != nil {
				return text, err
			}
			defer at.Close()
			if _, err := io.WriteString(at.Conn, "in\n"); err != nil {
				return text, err
			}
			if _, err := at.Reader.ReadByte(); err != nil {
				return text, err
			}
			runs := said()
			for ; !strings.Contains(runs, "pid true") && ctx.Err() == nil; runs = said() { // dockerd tells it a moment later
				time.Sleep(50 * time.Millisecond)
			}
			text += runs
			if err := at.CloseWrite(); err != nil {
				return text, err
			}
			if _, err := io.Copy(io.Discard, at.Reader); err != nil {
				return text, err
			}
			return text + said(), nil
		}},
	{
		Group: "exec API", Name: "started twice",
		Want: Answer{Out: "Error response from daemon: Error: Exec command ID has already run\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			e, err := a.ExecCreate(ctx, a.Box, client.ExecCreateOptions{Cmd: []string{"true"}})
			if err != nil {
				return "", err
			}
			if _, err := a.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true}); err != nil {
				return "", err
			}
			for running := true; running; time.Sleep(50 * time.Millisecond) {
				r, err := a.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
				if err != nil {
					return "", err
				}
				running = r.Running
			}
			_, err = a.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true})
			return fmt.Sprintln(err), nil
		}},
	{
		Group: "exec API", Name: "what is not there",
		Want: Answer{Out: "Error response from daemon: No such exec instance: nosuch\nError response from daemon: No such exec instance: nosuch\nError response from daemon: No such exec instance: nosuch\nError response from daemon: No exec command specified\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			_, inspect := a.ExecInspect(ctx, "nosuch", client.ExecInspectOptions{})
			_, start := a.ExecStart(ctx, "nosuch", client.ExecStartOptions{Detach: true})
			_, resize := a.ExecResize(ctx, "nosuch", client.ExecResizeOptions{Height: 1, Width: 1})
			_, create := a.ExecCreate(ctx, a.Box, client.ExecCreateOptions{})
			return fmt.Sprintf("%v\n%v\n%v\n%v\n", inspect, start, resize, create), nil
		}},
	{
		Group: "exec API", Name: "size given at the start",
		Want: Answer{Out: "stty: standard input\r\n"},
		Ours: &Answer{Out: "11 22\r\n"},
		Why:  "Docker Engine 23 and newer take the size, as we do; 20.10 ignores it",
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			e, err := a.ExecCreate(ctx, a.Box, client.ExecCreateOptions{TTY: true, AttachStdout: true, ConsoleSize: client.ConsoleSize{Height: 11, Width: 22}, Cmd: []string{"stty", "size"}})
			if err != nil {
				return "", err
			}
			at, err := a.ExecAttach(ctx, e.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 11, Width: 22}})
			if err != nil {
				return "", err
			}
			defer at.Close()
			out, err := io.ReadAll(at.Reader)
			return string(out), err
		}},
	{
		Group: "exec API", Name: "the container lists what runs",
		Want: Answer{Out: "listed\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			e, err := a.ExecCreate(ctx, a.Box, client.ExecCreateOptions{Cmd: []string{"sleep", "100"}})
			if err != nil {
				return "", err
			}
			if _, err := a.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true}); err != nil {
				return "", err
			}
			r, err := a.ContainerInspect(ctx, a.Box, client.ContainerInspectOptions{})
			if err != nil {
				return "", err
			}
			for _, id := range r.Container.ExecIDs {
				if id == e.ID {
					return "listed\n", nil
				}
			}
			return "", errors.New("not listed")
		}},
}
