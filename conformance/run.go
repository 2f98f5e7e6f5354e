//go:build linux

package conformance

import (
	"context"
	"fmt"

	"github.com/moby/moby/client"
)

// minded is the time that a client gets to mind its terminal's size, which it does after the start, and nobody sees.
const minded = `sleep 4`

var runCases = []Case{
	{
		Group: "run", Name: "streams are apart",
		Script: `docker run --rm $IMAGE sh -c 'echo out; echo err >&2'`,
		Want:   Answer{Out: "out\n", Err: "err\n"},
	},
	{
		Group: "run", Name: "exit code",
		Script: `docker run --rm $IMAGE sh -c 'exit 3'`,
		Want:   Answer{Code: 3},
	},
	{
		Group: "run", Name: "killed by KILL",
		Script: `docker run --name $N $IMAGE sh -c 'sh -c "kill -9 \$PPID"
			sleep 1; exit 1'; echo $?
			docker inspect -f '{{.State.ExitCode}}' $N`,
		Want: Answer{Out: "1\n1\n"},
		Ours: &Answer{Out: "137\n137\n"},
		Why:  "the container's process is not pid 1, so the kernel lets others kill it",
	},
	{
		Group: "run", Name: "no such command",
		Script: `docker run --name $N $IMAGE nosuch; echo $?
			docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' $N`,
		Want: Answer{Out: "127\ncreated 127 failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown\n", Err: "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown\n\nRun 'docker run --help' for more information\n"},
		Ours: &Answer{Out: "127\ncreated 127 failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"nosuch\": executable file not found in $PATH: unknown\n", Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"nosuch\": executable file not found in $PATH: unknown\n\nRun 'docker run --help' for more information\n"},
		Why:  "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "run", Name: "no such path",
		Script: `docker run --rm $IMAGE /no/such`,
		Want:   Answer{Err: "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory: unknown\n\nRun 'docker run --help' for more information\n", Code: 127},
		Ours:   &Answer{Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/no/such\": stat /no/such: no such file or directory: unknown\n\nRun 'docker run --help' for more information\n", Code: 127},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "run", Name: "a folder",
		Script: `docker run --rm $IMAGE /etc`,
		Want:   Answer{Err: "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/etc\": permission denied: unknown\n\nRun 'docker run --help' for more information\n", Code: 126},
		Ours:   &Answer{Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/etc\": is a directory: unknown\n\nRun 'docker run --help' for more information\n", Code: 126},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "run", Name: "not executable",
		Script: `docker run --rm $IMAGE /etc/passwd`,
		Want:   Answer{Err: "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/etc/passwd\": permission denied: unknown\n\nRun 'docker run --help' for more information\n", Code: 126},
		Ours:   &Answer{Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/etc/passwd\": permission denied: unknown\n\nRun 'docker run --help' for more information\n", Code: 126},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "run", Name: "no interpreter",
		Script: `docker run --rm $IMAGE nointerpreter`,
		Want:   Answer{Err: "exec /bin/nointerpreter: no such file or directory\n", Code: 1},
		Ours:   &Answer{Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec /bin/nointerpreter: no such file or directory: unknown\n\nRun 'docker run --help' for more information\n", Code: 127},
		Why:    "the kernel's refusal is known before the start is answered, so it is told as the start's error and not as the command's output",
	},
	{
		Group: "run", Name: "no format",
		Script: `docker run --rm $IMAGE noformat`,
		Want:   Answer{Err: "exec /bin/noformat: exec format error\n", Code: 1},
		Ours:   &Answer{Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec /bin/noformat: exec format error: unknown\n\nRun 'docker run --help' for more information\n", Code: 125},
		Why:    "the kernel's refusal is known before the start is answered, so it is told as the start's error and not as the command's output",
	},
	{
		Group: "run", Name: "no such image",
		Script: `docker run --pull never --rm nosuch:1`,
		Want:   Answer{Err: "docker: Error response from daemon: No such image: nosuch:1\n\nRun 'docker run --help' for more information\n", Code: 125},
	},
	{
		Group: "run", Name: "no such flag",
		Script: `docker run --nosuch $IMAGE 2>&1 | head -n 1`,
		Want:   Answer{Out: "unknown flag: --nosuch\n", Code: 125},
	},
	{
		Group: "run", Name: "-d of no such command",
		Script: `docker run -d --name $N $IMAGE nosuch`,
		Want:   Answer{Out: "ID\n", Err: "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown\n\nRun 'docker run --help' for more information\n", Code: 127},
		Ours:   &Answer{Out: "ID\n", Err: "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"nosuch\": executable file not found in $PATH: unknown\n\nRun 'docker run --help' for more information\n", Code: 127},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "run", Name: "arguments as they are",
		Script: `docker run --rm $IMAGE printf '[%s]' '' 'a b' $'c\nd' '"e"' '$HOME' '*'`,
		Want:   Answer{Out: "[][a b][c\nd][\"e\"][$HOME][*]"},
	},
	{
		Group: "run", Name: "a shell's exit code 126 and 127",
		Script: `docker run --rm $IMAGE sh -c 'nosuch'; echo $?; docker run --rm $IMAGE sh -c '/etc/passwd'; echo $?`,
		Want:   Answer{Out: "127\n126\n", Err: "sh: nosuch: not found\nsh: /etc/passwd: Permission denied\n"},
	},

	{
		Group: "run", Name: "stdin",
		Script: `docker run -i --rm $IMAGE sort`, Stdin: "b\na\n",
		Want: Answer{Out: "a\nb\n"},
	},
	{
		Group: "run", Name: "stdin without -i",
		Script: `docker run --rm $IMAGE cat`, Stdin: "b\na\n",
		Want: Answer{},
	},
	{
		Group: "run", Name: "output after the end of stdin",
		Script: `docker run -i --rm $IMAGE sh -c 'cat; sleep 1; echo late; exit 4'`, Stdin: "early\n",
		Want: Answer{Out: "early\nlate\n", Code: 4},
	},
	{
		Group: "run", Name: "endless stdin",
		Script: `docker run -i --rm $IMAGE head -n 2 < <(yes)`,
		Want:   Answer{Out: "y\ny\n"},
	},
	{
		Group: "run", Name: "-d -i keeps stdin open",
		Script: `docker run -di --name $N $IMAGE cat >/dev/null; sleep 1; docker inspect -f '{{.State.Status}}' $N`,
		Want:   Answer{Out: "running\n"},
	},
	{
		Group: "run", Name: "16 MB out",
		Script: `docker run --rm $IMAGE seq 2222222 | sha256sum`,
		Want:   Answer{Out: "0e11f54db0da60468dcbffdb93474db59fb6fbae7b2753e064beb6898866cc9f  -\n"},
	},
	{
		Group: "run", Name: "16 MB in",
		Script: `seq 2222222 | docker run -i --rm $IMAGE sha256sum`,
		Want:   Answer{Out: "0e11f54db0da60468dcbffdb93474db59fb6fbae7b2753e064beb6898866cc9f  -\n"},
	},
	{
		Group: "run", Name: "no newline at the end",
		Script: `docker run --rm $IMAGE printf end`,
		Want:   Answer{Out: "end"},
	},
	{
		Group: "run", Name: "-a stdout",
		Script: `docker run --rm -a stdout $IMAGE sh -c 'echo out; echo err >&2'`,
		Want:   Answer{Out: "out\n"},
	},
	{
		Group: "run", Name: "-a stderr",
		Script: `docker run --rm -a stderr $IMAGE sh -c 'echo out; echo err >&2'`,
		Want:   Answer{Err: "err\n"},
	},
	{
		Group: "run", Name: "-a stdin prints the id",
		Script: `echo in | docker run -i --name $N -a stdin $IMAGE sh -c 'cat; exit 2'; echo $?
			docker wait $N
			docker logs $N`,
		Want: Answer{Out: "2\n2\nin\n"},
	},
	{
		Group: "run", Name: "-d prints the id",
		Script: `docker run -d --rm $IMAGE true`,
		Want:   Answer{Out: "ID\n"},
	},

	{
		Group: "run", Name: "-e and --env-file",
		Script: `printf 'A=b c\nFROM_CLIENT\n' >file
			docker run --rm --env-file file -e E= -e UNSET $IMAGE sh -c 'echo "$A|$FROM_CLIENT|${E-unset}|${UNSET-unset}"'`,
		Want: Answer{Out: "b c|client's||unset\n"},
	},
	{
		Group: "run", Name: "environment",
		Script: `docker run --rm $IMAGE env | grep -v ^HOSTNAME= | sort`,
		Want:   Answer{Out: "HOME=/root\nPATH=/bin\n"},
	},
	{
		Group: "run", Name: "environment on a terminal",
		Script: `docker run --rm -t $IMAGE sh -c 'env | grep -v ^HOSTNAME= | sort'`, Type: []Keys{},
		Want: Answer{Out: "HOME=/root\r\r\nPATH=/bin\r\r\nPWD=/\r\r\nSHLVL=1\r\r\nTERM=xterm\r\r\n"},
	},
	{
		Group: "run", Name: "-w",
		Script: `docker run --rm -w /data/sub $IMAGE pwd`,
		Want:   Answer{Out: "/data/sub\n"},
	},
	{
		Group: "run", Name: "-w that is not there",
		Script: `docker run --rm -w /no/such $IMAGE pwd`,
		Want:   Answer{Out: "/no/such\n"},
	},
	{
		Group: "run", Name: "-w that is relative",
		Script: `docker run --rm -w data $IMAGE pwd`,
		Want:   Answer{Err: "docker: Error response from daemon: the working directory 'data' is invalid, it needs to be an absolute path\n\nRun 'docker run --help' for more information\n", Code: 125},
	},
	{
		Group: "run", Name: "-u name",
		Script: `docker run --rm -u app $IMAGE sh -c 'id; echo $HOME'`,
		Want:   Answer{Out: "uid=1000(app) gid=1000(app) groups=29(audio),100(users),1000(app)\n/home/app\n"},
	},
	{
		Group: "run", Name: "-u uid:gid that nobody has",
		Script: `docker run --rm -u 1234:5678 $IMAGE sh -c 'id; echo $HOME'`,
		Want:   Answer{Out: "uid=1234 gid=5678 groups=5678\n/\n"},
	},
	{
		Group: "run", Name: "-u nosuch",
		Script: `docker run --rm -u nosuch $IMAGE id`,
		Want:   Answer{Err: "docker: Error response from daemon: unable to find user nosuch: no matching entries in passwd file\n\nRun 'docker run --help' for more information\n", Code: 125},
	},
	{
		Group: "run", Name: "--group-add",
		Script: `docker run --rm -u app --group-add audio --group-add 777 $IMAGE id`,
		Want:   Answer{Out: "uid=1000(app) gid=1000(app) groups=29(audio),100(users),777,1000(app)\n"},
	},
	{
		Group: "run", Name: "--entrypoint",
		Script: `docker run --rm --entrypoint echo $IMAGE words`,
		Want:   Answer{Out: "words\n"},
	},
	{
		Group: "run", Name: "--entrypoint ''",
		Script: `docker run --rm --entrypoint '' $IMAGE echo words`,
		Want:   Answer{Out: "words\n"},
	},
	{
		Group: "run", Name: "-h",
		Script: `docker run --rm -h name $IMAGE sh -c 'hostname | grep -x name || echo another'`,
		Want:   Answer{Out: "name\n"},
		Ours:   &Answer{Out: "another\n", Err: "WARNING: --hostname has no effect: Container Apps names the replica, and that is the hostname inside\n"},
		Why:    "Container Apps names the replica; a warning says so",
	},
	{
		Group: "run", Name: "--ulimit",
		Script: `docker run --rm --ulimit nofile=100:200 $IMAGE sh -c 'ulimit -Sn; ulimit -Hn'`,
		Want:   Answer{Out: "100\n200\n"},
	},
	{
		Group: "run", Name: "--cidfile",
		Script: `docker run --rm --cidfile id $IMAGE true; cat id`,
		Want:   Answer{Out: "ID"},
	},
	{
		Group: "run", Name: "--rm",
		Script: `docker run --rm --name $N $IMAGE true; await sh -c "! docker inspect $N"; docker inspect $N`,
		Want:   Answer{Out: "[]\n", Err: "Error: No such object: N\n", Code: 1},
	},
	{
		Group: "run", Name: "--rm after a failure",
		Script: `docker run --rm --name $N $IMAGE nosuch 2>/dev/null; echo $?
			await sh -c "! docker inspect $N"
			docker ps -aqf name=$N`,
		Want: Answer{Out: "127\n"},
	},
	{
		Group: "run", Name: "a name that is taken",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker run --name $N $IMAGE true`,
		Want:   Answer{Err: "docker: Error response from daemon: Conflict. The container name \"/N\" is already in use by container \"ID\". You have to remove (or rename) that container to be able to reuse that name.\n\nRun 'docker run --help' for more information\n", Code: 125},
	},
	{
		Group: "run", Name: "a name that is none",
		Script: `docker run --name 'a b' $IMAGE true`,
		Want:   Answer{Err: "docker: Error response from daemon: Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed\n\nRun 'docker run --help' for more information\n", Code: 125},
	},
	{
		Group: "run", Name: "pid 1",
		Script: `docker run --rm $IMAGE sh -c 'test $$ = 1 && echo 1 || echo another'`,
		Want:   Answer{Out: "1\n"},
		Ours:   &Answer{Out: "another\n"},
		Why:    "the agent is pid 1, or the platform's own init",
	},
	{
		Group: "run", Name: "a child that keeps the output",
		Script: `docker run --rm $IMAGE sh -c '(sleep 30; echo late) & echo early'`,
		Want:   Answer{Out: "early\n"},
	},
	{
		Group: "run", Name: "read-only root",
		Script: `docker run --rm --read-only $IMAGE touch /tmp/x`,
		Want:   Answer{Err: "touch: /tmp/x: Read-only file system\n", Code: 1},
		Ours:   &Answer{Err: "docker: Error response from daemon: cannot use --read-only: Container Apps has no read-only root file systems\n\nRun 'docker run --help' for more information\n", Code: 125},
		Why:    "Container Apps has no read-only root file systems",
	},

	{
		Group: "run", Name: "terminal",
		Script: `docker run --rm -t $IMAGE sh -c 'tty | cut -c1-9; echo err >&2; until stty size 2>/dev/null | grep 24; do sleep .1; done'`, Type: []Keys{},
		Want: Answer{Out: "/dev/pts/\r\r\nerr\r\r\n24 80\r\r\n"},
	},
	{
		Group: "run", Name: "typed words",
		Script: `docker run --rm -it $IMAGE sh -c 'echo ready; read a; echo "got $a"; exit 7'`, Type: []Keys{{After: "ready", Send: "words\r"}},
		Want: Answer{Out: "ready\r\nwords\r\ngot words\r\n", Code: 7},
	},
	{
		Group: "run", Name: "typed ctrl-c",
		Script: `docker run --rm -it $IMAGE sh -c 'trap "echo int; exit 9" INT; echo ready; while :; do sleep .1; done'`, Type: []Keys{{After: "ready", Send: "\x03"}},
		Want: Answer{Out: "ready\r\n^Cint\r\n", Code: 9},
	},
	{
		Group: "run", Name: "detach keys",
		Script: `docker run --name $N -it $IMAGE sh -c 'echo ready; cat'; echo code $?
			docker inspect -f '{{.State.Status}}' $N`, Type: []Keys{{After: "ready", Send: "\x10\x11"}},
		Want: Answer{Out: "ready\r\ncode 0\r\nrunning\r\n"},
	},
	{
		Group: "run", Name: "resize",
		Script: `docker run --rm -it $IMAGE sh -c 'trap "stty size | grep 33 && exit" WINCH; ` + minded + `; echo ready; while :; do sleep .1; done'`, Type: []Keys{{After: "ready", Rows: 33, Cols: 99}},
		Want: Answer{Out: "ready\r\n33 99\r\n"},
	},

	{
		Group: "signals", Name: "client gets TERM",
		Script: `docker run --name $N $IMAGE sh -c 'trap "echo term; exit 9" TERM; echo ready; while :; do sleep .1; done' & logged $N ready
			kill -TERM $!
			wait $!`,
		Want: Answer{Out: "ready\nterm\n", Code: 9},
	},
	{
		Group: "signals", Name: "client gets HUP",
		Script: `docker run --name $N $IMAGE sh -c 'trap "echo hup; exit 9" HUP; echo ready; while :; do sleep .1; done' & logged $N ready
			kill -HUP $!
			wait $!`,
		Want: Answer{Out: "ready\nhup\n", Code: 9},
	},
	{
		Group: "signals", Name: "client gets USR1",
		Script: `docker run --name $N $IMAGE sh -c 'trap "echo usr1; exit 9" USR1; echo ready; while :; do sleep .1; done' & logged $N ready
			kill -USR1 $!
			wait $!`,
		Want: Answer{Out: "ready\nusr1\n", Code: 9},
	},
	{
		Group: "signals", Name: "client gets TERM, --sig-proxy=false",
		Script: `docker run --sig-proxy=false --name $N $IMAGE sh -c 'trap "echo term" TERM; echo ready; while :; do sleep .1; done' >said & await grep -q ready said
			kill -TERM $!
			sleep 1
			cat said
			docker inspect -f '{{.State.Status}}' $N
			docker kill $N >/dev/null
			wait $!`,
		Want: Answer{Out: "ready\nrunning\n", Code: 137},
	},
	{
		Group: "signals", Name: "client is killed",
		Script: `exec 2>/dev/null; docker run --name $N $IMAGE sh -c 'echo ready
			sleep 1000' >said & await grep -q ready said
			kill -9 $!
			wait $! 2>/dev/null
			sleep 1
			cat said
			docker inspect -f '{{.State.Status}}' $N`,
		Want: Answer{Out: "ready\nrunning\n"},
	},
	{
		Group: "signals", Name: "stop",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "echo term; exit 5" TERM; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker stop $N | sed "s/$N/N/"
			docker logs $N
			docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\nready\nterm\nexited 5\n"},
	},
	{
		Group: "signals", Name: "stop of what ignores TERM",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "" TERM; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker stop -t 1 $N
			docker inspect -f '{{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\n137\n"},
	},
	{
		Group: "signals", Name: "stop of what has no handler",
		Script: `docker run -d --name $N $IMAGE sleep 1000 >/dev/null
			docker stop $N
			docker inspect -f '{{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\n137\n"},
		Ours: &Answer{Out: "N\n143\n"},
		Why:  "the container's process is not pid 1, so a signal that it does not handle ends it",
	},
	{
		Group: "signals", Name: "--stop-signal",
		Script: `docker run -d --stop-signal INT --name $N $IMAGE sh -c 'trap "exit 6" INT; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker stop $N
			docker inspect -f '{{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\n6\n"},
	},
	{
		Group: "signals", Name: "--stop-timeout",
		Script: `docker run -d --stop-timeout 1 --name $N $IMAGE sh -c 'trap "" TERM; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker stop $N
			docker inspect -f '{{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\n137\n"},
	},
	{
		Group: "signals", Name: "stop -s",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "exit 6" USR1; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker stop -s USR1 $N
			docker inspect -f '{{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\n137\n"},
		Ours: &Answer{Out: "N\n6\n"},
		Why:  "Docker Engine 23 and newer take the signal, as we do; 20.10 ignores it",
	},
	{
		Group: "signals", Name: "stop of what has stopped",
		Script: `docker run --name $N $IMAGE true; docker stop $N`,
		Want:   Answer{Out: "N\n"},
	},
	{
		Group: "signals", Name: "kill",
		Script: `docker run -d --name $N $IMAGE sleep 1000 >/dev/null; docker kill $N; docker wait $N`,
		Want:   Answer{Out: "N\n137\n"},
	},
	{
		Group: "signals", Name: "kill -s",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "exit 6" USR2; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker kill -s USR2 $N
			docker wait $N`,
		Want: Answer{Out: "N\n6\n"},
	},
	{
		Group: "signals", Name: "kill -s SIGHUP and a number",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "echo hup" HUP; trap "exit 7" USR1; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker kill -s SIGHUP $N
			logged $N hup
			docker kill -s 10 $N
			docker wait $N`,
		Want: Answer{Out: "N\nN\n7\n"},
	},
	{
		Group: "signals", Name: "kill -s of a real-time signal",
		Script: `docker run -d --name $N $IMAGE sh -c 'trap "exit 8" 35; echo ready; while :; do sleep .1; done' >/dev/null
			logged $N ready
			docker kill -s RTMIN+1 $N; docker wait $N`,
		Want: Answer{Out: "N\n8\n"},
	},
	{
		Group: "signals", Name: "kill -s of none",
		Script: `docker kill -s NOSUCH $BOX`,
		Want:   Answer{Err: "Error response from daemon: Invalid signal: NOSUCH\n", Code: 1},
	},
	{
		Group: "signals", Name: "kill of what has stopped",
		Script: `docker run --name $N $IMAGE true; docker kill $N`,
		Want:   Answer{Err: "Error response from daemon: Cannot kill container: N: Container ID is not running\n", Code: 1},
	},
	{
		Group: "signals", Name: "stop and continue",
		Script: `docker run -d --name $N $IMAGE sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep .1; done' >/dev/null
			logged $N 3
			docker kill -s STOP $N >/dev/null
			docker inspect -f '{{.State.Status}}' $N
			docker kill -s CONT $N >/dev/null; n=$(docker logs $N | wc -l)
			await sh -c "test \$(docker logs $N | wc -l) -gt $((n+3))"; echo goes on`,
		Want: Answer{Out: "running\ngoes on\n"},
	},

	{
		Group: "life", Name: "create, start, exit",
		Script: `docker create --name $N $IMAGE sh -c 'exit 4' | wc -c
			docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}}' $N
			docker start $N
			docker wait $N
			docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.Path}} {{json .Args}}' $N`,
		Want: Answer{Out: "65\ncreated 0 0001-01-01T00:00:00Z\nN\n4\nexited 4 sh [\"-c\",\"exit 4\"]\n"},
	},
	{
		Group: "life", Name: "start of what runs",
		Script: `docker start $BOX`,
		Want:   Answer{Out: "BOX\n"},
	},
	{
		Group: "life", Name: "start -a",
		Script: `docker create --name $N $IMAGE sh -c 'echo out; echo err >&2; exit 4' >/dev/null
			docker start -a $N; echo $?
			docker start -a $N`,
		Want: Answer{Out: "out\n4\nout\n", Err: "err\nerr\n", Code: 4},
	},
	{
		Group: "life", Name: "start -ai",
		Script: `docker create -i --name $N $IMAGE sort >/dev/null; printf 'b\na\n' | docker start -ai $N; printf 'd\nc\n' | docker start -ai $N`,
		Want:   Answer{Out: "a\nb\nc\nd\n"},
	},
	{
		Group: "life", Name: "start of no such container",
		Script: `docker start nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\nError: failed to start containers: nosuch\n", Code: 1},
	},
	{
		Group: "life", Name: "restart keeps the files",
		Script: `docker run -d --name $N $IMAGE sleep 1000 >/dev/null
			docker exec $N sh -c 'echo kept >/data/kept'
			docker restart -t 0 $N
			docker exec $N cat /data/kept`,
		Want: Answer{Out: "N\nkept\n"},
	},
	{
		Group: "life", Name: "start again keeps the files",
		Script: `docker run --name $N $IMAGE sh -c 'echo line >>/data/lines; cat /data/lines'; docker start -a $N`,
		Want:   Answer{Out: "line\nline\nline\n"},
	},
	{
		Group: "life", Name: "restart kills what is left",
		Script: `docker run -d --name $N $IMAGE sh -c 'sleep 4444 & exec sleep 1000' >/dev/null
			await sh -c "docker exec $N ps -o args | grep '^sleep 4444'"
			docker restart -t 0 $N >/dev/null
			await sh -c "docker exec $N ps -o args | grep '^sleep 4444'"
			docker exec $N ps -o args | grep -c '^sleep 4444'`,
		Want: Answer{Out: "1\n"},
	},
	{
		Group: "life", Name: "wait for several",
		Script: `docker run -d --name ${N}a $IMAGE sh -c 'exit 3' >/dev/null
			docker run -d --name ${N}b $IMAGE sh -c 'sleep 1; exit 4' >/dev/null
			docker wait ${N}b ${N}a`,
		Want: Answer{Out: "4\n3\n"},
	},
	{
		Group: "life", Name: "wait for no such container",
		Script: `docker wait nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "life", Name: "rename",
		Script: `docker create --name $N $IMAGE true >/dev/null
			docker rename $N ${N}b
			docker inspect -f '{{.Name}}' ${N}b
			docker inspect $N`,
		Want: Answer{Out: "/Nb\n[]\n", Err: "Error: No such object: N\n", Code: 1},
	},
	{
		Group: "life", Name: "rename to a name that is taken",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker rename $N $BOX`,
		Want:   Answer{Err: "Error response from daemon: Error when allocating new name: Conflict. The container name \"/BOX\" is already in use by container \"ID\". You have to remove (or rename) that container to be able to reuse that name.\nError: failed to rename container named N\n", Code: 1},
	},
	{
		Group: "life", Name: "rm of what runs",
		Script: `docker rm $BOX`,
		Want:   Answer{Err: "Error response from daemon: You cannot remove a running container ID. Stop the container before attempting removal or force remove\n", Code: 1},
		Ours:   &Answer{Err: "Error response from daemon: cannot remove container \"/BOX\": container is running: stop the container before removing or force remove\n", Code: 1},
		Why:    "the words and codes of Docker Engine 28; the engine asked is 20.10",
	},
	{
		Group: "life", Name: "rm -f of what runs",
		Script: `docker run -d --name $N $IMAGE sleep 1000 >/dev/null; docker rm -f $N; docker inspect $N`,
		Want:   Answer{Out: "N\n[]\n", Err: "Error: No such object: N\n", Code: 1},
	},
	{
		Group: "life", Name: "rm of no such container",
		Script: `docker rm nosuch; echo $?; docker rm -f nosuch`,
		Want:   Answer{Out: "1\n", Err: "Error response from daemon: No such container: nosuch\nError response from daemon: No such container: nosuch\n"},
	},
	{
		Group: "life", Name: "rm ends a wait",
		Want: Answer{Out: "137\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			if _, err := a.Host.Docker(ctx, "run", "-d", "--name", a.Own, a.Image, "sleep", "1000"); err != nil {
				return "", err
			}
			ended := a.ContainerWait(ctx, a.Own, client.ContainerWaitOptions{}) // returns when the host has begun to wait
			if _, err := a.ContainerRemove(ctx, a.Own, client.ContainerRemoveOptions{Force: true}); err != nil {
				return "", err
			}
			select {
			case e := <-ended.Result:
				return fmt.Sprintln(e.StatusCode), nil
			case err := <-ended.Error:
				return "", err
			}
		}},
	{
		Group: "life", Name: "ps",
		Script: `docker create --name ${N}a -l case=$N $IMAGE echo a >/dev/null
			docker run -d --name ${N}b -l case=$N $IMAGE sleep 1000 >/dev/null
			docker run --name ${N}c -l case=$N $IMAGE sh -c 'exit 3'
			docker ps -a --filter label=case=$N --format '{{.Names}} {{.State}} {{.Command}} {{.Image}}'
			docker ps --filter label=case=$N --format '{{.Names}}'
			docker ps -aq --filter label=case=$N --filter exited=3 | wc -l`,
		Want: Answer{Out: "Nc exited \"sh -c 'exit 3'\" sockerless-conformance:1\nNb running \"sleep 1000\" sockerless-conformance:1\nNa created \"echo a\" sockerless-conformance:1\nNb\n1\n"},
	},
	{
		Group: "life", Name: "a prefix of an id",
		Script: `id=$(docker create --name $N $IMAGE true); docker inspect -f '{{.Name}}' ${id:0:12}`,
		Want:   Answer{Out: "/N\n"},
	},
	{
		Group: "life", Name: "restarts after failures",
		Script: `docker run -d --name $N --restart on-failure:2 $IMAGE sh -c 'echo run; exit 3' >/dev/null
			await sh -c "test \$(docker inspect -f '{{.RestartCount}} {{.State.Status}}' $N | tr -d ' ') = 2exited"
			docker logs $N
			docker inspect -f '{{.RestartCount}} {{.State.ExitCode}}' $N`,
		Want: Answer{Out: "run\nrun\nrun\n2 3\n"},
	},
	{
		Group: "life", Name: "no restart after success",
		Script: `docker run -d --name $N --restart on-failure:2 $IMAGE echo run >/dev/null
			docker wait $N
			docker inspect -f '{{.RestartCount}} {{.State.Status}}' $N`,
		Want: Answer{Out: "0\n0 exited\n"},
	},
	{
		Group: "life", Name: "restarts always, until stopped",
		Script: `docker run -d --name $N --restart always $IMAGE sh -c 'echo run' >/dev/null
			await sh -c "test \$(docker inspect -f '{{.RestartCount}}' $N) -ge 3"
			docker stop $N
			docker inspect -f '{{.State.Status}}' $N`,
		Want: Answer{Out: "N\nexited\n"},
	},
}
