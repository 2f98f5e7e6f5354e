//go:build linux

package conformance

// counts writes a number each tenth of a second into a file of its own.
const counts = `docker run -d --name $N $IMAGE sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/i; test $i = 3 && echo ready; sleep .1; done' >/dev/null; logged $N ready; `

var insideCases = []Case{
	{
		Group: "pause", Name: "nothing runs",
		Script: counts + `docker pause $N
			docker inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}}' $N
			docker cp $N:/tmp/i a
			sleep 1
			docker cp $N:/tmp/i b; cmp a b && echo stands`,
		Want: Answer{Out: "N\npaused true true\nstands\n"},
	},
	{
		Group: "pause", Name: "unpause",
		Script: counts + `docker pause $N >/dev/null
			docker unpause $N
			docker inspect -f '{{.State.Status}}' $N
			docker exec $N cat /tmp/i >a
			await sh -c "docker exec $N cat /tmp/i >b && ! cmp -s a b" && echo goes on`,
		Want: Answer{Out: "N\nrunning\ngoes on\n"},
	},
	{
		Group: "pause", Name: "twice",
		Script: counts + `docker pause $N >/dev/null; docker pause $N`,
		Want:   Answer{Err: "Error response from daemon: Container ID is already paused\n", Code: 1},
	},
	{
		Group: "pause", Name: "unpause of what runs",
		Script: `docker unpause $BOX`,
		Want:   Answer{Err: "Error response from daemon: Container ID is not paused\n", Code: 1},
	},
	{
		Group: "pause", Name: "of what has exited",
		Script: `docker run --name $N $IMAGE true; docker pause $N`,
		Want:   Answer{Err: "Error response from daemon: Container ID is not running\n", Code: 1},
	},
	{
		Group: "pause", Name: "no such container",
		Script: `docker pause nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "pause", Name: "exec in it",
		Script: counts + `docker pause $N >/dev/null; docker exec $N true`,
		Want:   Answer{Err: "Error response from daemon: Container N is paused, unpause the container before exec\n", Code: 1},
		Ours:   &Answer{Err: "Error response from daemon: Container ID is paused, unpause the container before exec\n", Code: 1},
		Why:    "the container is told by its id",
	},
	{
		Group: "pause", Name: "attach to it",
		Script: counts + `docker pause $N >/dev/null; docker attach $N`,
		Want:   Answer{Err: "You cannot attach to a paused container, unpause it first\n", Code: 1},
	},
	{
		Group: "pause", Name: "logs of it",
		Script: counts + `docker pause $N >/dev/null; docker logs $N`,
		Want:   Answer{Out: "ready\n"},
	},
	{
		Group: "pause", Name: "ps",
		Script: counts + `docker pause $N >/dev/null
			docker ps --filter name=$N --filter status=paused --format '{{.Names}} {{.State}} {{.Status}}' | sed 's/Up .* (/Up (/'`,
		Want: Answer{Out: "N paused Up (Paused)\n"},
	},
	{
		Group: "pause", Name: "kill of it",
		Script: counts + `docker pause $N >/dev/null; docker kill $N; docker wait $N`,
		Want:   Answer{Out: "N\n137\n"},
	},
	{
		Group: "pause", Name: "stop of it",
		Script: counts + `docker pause $N >/dev/null
			docker stop $N
			docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' $N`,
		Want: Answer{Out: "N\nexited 137\n"},
		Ours: &Answer{Out: "N\nexited 143\n"},
		Why:  "the container's process is not pid 1, so a signal that it does not handle ends it",
	},
	{
		Group: "pause", Name: "rm -f of it",
		Script: counts + `docker pause $N >/dev/null; docker rm -f $N`,
		Want:   Answer{Out: "N\n"},
	},
	{
		Group: "pause", Name: "start of it",
		Script: counts + `docker pause $N >/dev/null; docker start $N`,
		Want:   Answer{Err: "Error response from daemon: cannot start a paused container, try unpause instead\nError: failed to start containers: N\n", Code: 1},
	},
	{
		Group: "stats", Name: "columns",
		Script: `docker stats --no-stream $BOX | head -n 1 | sed 's/  */ /g'`,
		Want:   Answer{Out: "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS\n"},
	},
	{
		Group: "stats", Name: "pids",
		Script: `docker run -d --name $N $IMAGE sh -c 'sleep 1000 & sleep 1000 & sleep 1000' >/dev/null
			await sh -c "docker stats --no-stream --format '{{.PIDs}}' $N | grep -x 3"
			docker stats --no-stream --format '{{.Name}} {{.PIDs}}' $N`,
		Want: Answer{Out: "N 3\n"},
	},
	{
		Group: "stats", Name: "a busy processor",
		Script: `docker run -d --name $N $IMAGE sh -c 'while :; do :; done' >/dev/null
			sleep 1; p=$(docker stats --no-stream --format '{{.CPUPerc}}' $N); test $p != 0.00% && echo busy`,
		Want: Answer{Out: "busy\n"},
	},
	{
		Group: "stats", Name: "memory that is used",
		Script: `docker run -d --name $N $IMAGE sh -c 'a=$(head -c 50000000 /dev/zero | tr "\0" x); echo ready
			sleep 1000; exit' >/dev/null
			logged $N ready
			docker stats --no-stream --format '{{.MemUsage}}' $N | grep -qE '^(4[0-9]|[5-9][0-9]|[12][0-9][0-9])(\.[0-9]*)?MiB / ' && echo seen`,
		Want: Answer{Out: "seen\n"},
	},
	{
		Group: "stats", Name: "of what has exited",
		Script: `docker run --name $N $IMAGE true; docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.CPUPerc}}' $N`,
		Want:   Answer{Out: "N 0 0.00%\n"},
	},
	{
		Group: "stats", Name: "no such container",
		Script: `docker stats --no-stream nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "diff", Name: "added, changed, deleted",
		Script: `docker run --name $N $IMAGE sh -c 'echo new >/data/new; echo more >>/data/file; rm /data/sub/inner; mkdir /data/dir; touch /data/dir/x; chmod 700 /data/empty'
			docker diff $N | sort`,
		Want: Answer{Out: "A /data/dir\nA /data/dir/x\nA /data/new\nC /data\nC /data/empty\nC /data/file\nC /data/sub\nD /data/sub/inner\n"},
	},
	{
		Group: "diff", Name: "nothing",
		Script: `docker run --name $N $IMAGE true; docker diff $N`,
		Want:   Answer{},
	},
	{
		Group: "diff", Name: "of a created container",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker diff $N`,
		Want:   Answer{},
	},
	{
		Group: "diff", Name: "what was copied",
		Script: `echo x >f; docker run --name $N $IMAGE true; docker cp f $N:/data/copied; docker diff $N`,
		Want:   Answer{Out: "C /data\nA /data/copied\n"},
	},
	{
		Group: "diff", Name: "a folder that is replaced",
		Script: `docker run --name $N $IMAGE sh -c 'rm -r /data/sub; mkdir /data/sub; touch /data/sub/x'
			docker diff $N | sort`,
		Want: Answer{Out: "A /data/sub/x\nC /data\nC /data/sub\nD /data/sub/inner\n"},
	},
	{
		Group: "diff", Name: "no such container",
		Script: `docker diff nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "health", Name: "healthy",
		Script: `docker run -d --name $N --health-cmd 'until test -e /tmp/go; do sleep .1; done; echo fine' --health-interval 1s $IMAGE sleep 1000 >/dev/null
			docker inspect -f '{{.State.Health.Status}}' $N
			docker exec $N touch /tmp/go
			await sh -c "docker inspect -f '{{.State.Health.Status}}' $N | grep -x healthy"
			docker inspect -f '{{.State.Health.FailingStreak}} {{(index .State.Health.Log 0).ExitCode}} {{json (index .State.Health.Log 0).Output}}' $N
			docker ps --filter name=$N --format '{{.Status}}' | sed 's/Up .*(/(/'`,
		Want: Answer{Out: "starting\n0 0 \"fine\\n\"\n(healthy)\n"},
	},
	{
		Group: "health", Name: "unhealthy",
		Script: `docker run -d --name $N --health-cmd 'echo bad; exit 3' --health-interval 1s --health-retries 2 $IMAGE sleep 1000 >/dev/null
			await sh -c "docker inspect -f '{{.State.Health.Status}}' $N | grep -x unhealthy"
			docker inspect -f '{{(index .State.Health.Log 0).ExitCode}} {{json (index .State.Health.Log 0).Output}}' $N
			docker inspect -f '{{.State.Status}}' $N`,
		Want: Answer{Out: "3 \"bad\\n\"\nrunning\n"},
	},
	{
		Group: "health", Name: "becomes healthy again",
		Script: `docker run -d --name $N --health-cmd 'test -e /tmp/ok' --health-interval 1s --health-retries 1 $IMAGE sleep 1000 >/dev/null
			await sh -c "docker inspect -f '{{.State.Health.Status}}' $N | grep -x unhealthy"
			docker exec $N touch /tmp/ok
			await sh -c "docker inspect -f '{{.State.Health.Status}}' $N | grep -x healthy"
			docker inspect -f '{{.State.Health.FailingStreak}}' $N`,
		Want: Answer{Out: "0\n"},
	},
	{
		Group: "health", Name: "start period",
		Script: `docker run -d --name $N --health-cmd false --health-interval 1s --health-retries 1 --health-start-period 1h $IMAGE sleep 1000 >/dev/null
			sleep 3
			docker inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' $N`,
		Want: Answer{Out: "starting 0\n"},
	},
	{
		Group: "health", Name: "a check that takes too long",
		Script: `docker run -d --name $N --health-cmd 'echo begun
			sleep 100' --health-interval 1s --health-timeout 1s --health-retries 1 $IMAGE sleep 1000 >/dev/null
			await sh -c "docker inspect -f '{{.State.Health.Status}}' $N | grep -x unhealthy"
			docker inspect -f '{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}' $N | head -n 1 | cut -c1-37`,
		Want: Answer{Out: "-1 Health check exceeded timeout (1s)\n"},
	},
	{
		Group: "health", Name: "events",
		Script: `t=$(date +%s)
			docker run -d --name $N --health-cmd true --health-interval 1s $IMAGE sleep 1000 >/dev/null
			await sh -c "docker inspect -f '{{.State.Health.Status}}' $N | grep -x healthy"
			docker events --since $t --until $(($(date +%s)+1)) --filter container=$N --filter event=health_status --format '{{.Status}}' | head -n 1`,
		Want: Answer{Out: "health_status: healthy\n"},
	},
	{
		Group: "health", Name: "--no-healthcheck",
		Script: `docker run -d --name $N --no-healthcheck $IMAGE sleep 1000 >/dev/null
			docker inspect -f '{{json .State.Health}} {{json .Config.Healthcheck.Test}}' $N`,
		Want: Answer{Out: "null [\"NONE\"]\n"},
	},

	{
		Group: "top", Name: "columns and commands",
		Script: `docker run -d --name $N $IMAGE sh -c 'sleep 1111 & sleep 2222' >/dev/null
			await sh -c "docker top $N | grep -q ' sleep 1111$'"
			await sh -c "docker top $N | grep -v ' sh ' | grep -q ' sleep 2222$'"
			docker top $N | sed '1s/  */ /g; 1!s/.* //' | sort`,
		Want: Answer{Out: "1111\n2222\nUID PID PPID C STIME TTY TIME CMD\n"},
	},
	{
		Group: "top", Name: "of ps's options",
		Script: `docker run -d --name $N $IMAGE sleep 1111 >/dev/null
			docker top $N -o pid,comm | sed 's/^ *[0-9]* */PID /'
			docker top $N -eo comm`,
		Want: Answer{Out: "PID PID                 COMMAND\nPID sleep\n", Err: "Error response from daemon: Couldn't find PID field in ps output\n", Code: 1},
	},
	{
		Group: "top", Name: "of what has exited",
		Script: `docker run --name $N $IMAGE true; docker top $N`,
		Want:   Answer{Err: "Error response from daemon: Container ID is not running\n", Code: 1},
	},
	{
		Group: "top", Name: "no such container",
		Script: `docker top nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},

	{
		Group: "export", Name: "files",
		Script: `docker run --name $N $IMAGE sh -c 'echo new >/data/new; rm /data/sub/inner'
			docker export $N | tar t | grep ^data/ | sort`,
		Want: Answer{Out: "data/\ndata/abslink\ndata/dangling\ndata/dirlink\ndata/empty/\ndata/fifo\ndata/file\ndata/hard\ndata/link\ndata/loop\ndata/new\ndata/setuid\ndata/sub/\ndata/two words\n"},
	},
	{
		Group: "export", Name: "owners, modes, times, links",
		Script: `docker run --name $N $IMAGE true
			docker export $N | tar tv --numeric-owner | sed 's/  */ /g' | grep ' data/' | grep -v hard | cut -d' ' -f1,2,3,6- | sed 's/ data.file link to data.hard/ data\/file/' | sort -k4`,
		Want: Answer{Out: "drwxr-xr-x 0/0 0 data/\nlrwxrwxrwx 0/0 0 data/abslink -> /etc/group\nlrwxrwxrwx 0/0 0 data/dangling -> /no/such/file\nlrwxrwxrwx 0/0 0 data/dirlink -> sub\ndrwxr-xr-x 0/0 0 data/empty/\nprw-r--r-- 0/0 0 data/fifo\n---------- 0/0 16 data/file\nlrwxrwxrwx 0/0 0 data/link -> file\nlrwxrwxrwx 0/0 0 data/loop -> loop\n-rwsr-xr-x 0/0 18 data/setuid\ndrwxr-xr-x 0/0 0 data/sub/\n-rw------- 0/0 17 data/sub/inner\n-rw-r--r-- 0/0 21 data/two words\n"},
	},
	{
		Group: "export", Name: "-o",
		Script: `docker run --name $N $IMAGE true; docker export -o x.tar $N; tar xOf x.tar data/two\ words`,
		Want:   Answer{Out: "content of two words\n"},
	},
	{
		Group: "export", Name: "of a created container",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker export $N | tar t | grep ^data/file`,
		Want:   Answer{Out: "data/file\n"},
	},
	{
		Group: "export", Name: "no such container",
		Script: `docker export nosuch`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},

	{
		Group: "events", Name: "of a life",
		Script: `t=$(date +%s)
			docker run --name $N $IMAGE sh -c 'exit 3'
			docker rm $N >/dev/null
			docker events --since $t --until $(($(date +%s)+1)) --filter type=container --format '{{.Action}} {{index .Actor.Attributes "name"}} {{index .Actor.Attributes "exitCode"}}' | grep " $N "`,
		Want: Answer{Out: "create N \nattach N \nstart N \ndie N 3\ndestroy N \n"},
	},
}
