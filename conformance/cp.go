//go:build linux

package conformance

import (
	"context"
	"fmt"

	"github.com/moby/moby/client"
)

// there makes a folder of the case's own in the shared box: $D.
const there = `D=/tmp/$N; docker exec $BOX mkdir $D; printf new >f; mkdir -p d/e; printf inner >d/e/g; chmod 750 d/e; chmod 604 d/e/g; `

// tree lists the case's folder in the box.
const tree = `; docker exec -w $D $BOX sh -c 'find . | sort | while read p; do test -f "$p" && echo "$p $(cat "$p")" || echo "$p"; done' | tail -n +2`

// fileTime is that of everything in the image.
const fileTime = 1577836800

// here lists what came.
const here = `; find . -mindepth 1 ! -name '.docker*' | sort | while read p; do test -f "$p" -a ! -L "$p" && echo "$p $(cat "$p")" || echo "$p"; done`

var cpCases = []Case{
	{
		Group: "cp in", Name: "file to a new name",
		Script: there + `docker cp f $BOX:$D/n` + tree,
		Want:   Answer{Out: "./n new\n"},
	},
	{
		Group: "cp in", Name: "file over a file",
		Script: there + `docker exec $BOX sh -c "echo oldoldold >$D/n"; docker cp f $BOX:$D/n` + tree,
		Want:   Answer{Out: "./n new\n"},
	},
	{
		Group: "cp in", Name: "file into a folder",
		Script: there + `docker cp f $BOX:$D` + tree,
		Want:   Answer{Out: "./f new\n"},
	},
	{
		Group: "cp in", Name: "file into a folder/",
		Script: there + `docker cp f $BOX:$D/` + tree,
		Want:   Answer{Out: "./f new\n"},
	},
	{
		Group: "cp in", Name: "file to nosuch/",
		Script: there + `docker cp f $BOX:$D/nosuch/`,
		Want:   Answer{Err: "no such directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "file to nosuch/name",
		Script: there + `docker cp f $BOX:$D/nosuch/name`,
		Want:   Answer{Err: "Error response from daemon: Could not find the file /tmp/N/nosuch in container BOX\n", Code: 1},
	},
	{
		Group: "cp in", Name: "file over a file/",
		Script: there + `docker exec $BOX touch $D/n; docker cp f $BOX:$D/n/`,
		Want:   Answer{Err: "no such directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "file/ is no folder",
		Script: there + `docker cp f/ $BOX:$D`,
		Want:   Answer{Err: "not a directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "no such file",
		Script: there + `docker cp nosuch $BOX:$D`,
		Want:   Answer{Err: "lstat DIR/nosuch: no such file or directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "folder to a new name",
		Script: there + `docker cp d $BOX:$D/n` + tree,
		Want:   Answer{Out: "./n\n./n/e\n./n/e/g inner\n"},
	},
	{
		Group: "cp in", Name: "folder to a new name/",
		Script: there + `docker cp d $BOX:$D/n/` + tree,
		Want:   Answer{Out: "./n\n./n/e\n./n/e/g inner\n"},
	},
	{
		Group: "cp in", Name: "folder into a folder",
		Script: there + `docker cp d $BOX:$D` + tree,
		Want:   Answer{Out: "./d\n./d/e\n./d/e/g inner\n"},
	},
	{
		Group: "cp in", Name: "folder/. into a folder",
		Script: there + `docker cp d/. $BOX:$D` + tree,
		Want:   Answer{Out: "./e\n./e/g inner\n"},
	},
	{
		Group: "cp in", Name: "folder/. to a new name",
		Script: there + `docker cp d/. $BOX:$D/n` + tree,
		Want:   Answer{Out: "./n\n./n/e\n./n/e/g inner\n"},
	},
	{
		Group: "cp in", Name: "folder over a file",
		Script: there + `docker exec $BOX touch $D/n; docker cp d $BOX:$D/n`,
		Want:   Answer{Err: "cannot copy directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "folder/. over a file",
		Script: there + `docker exec $BOX touch $D/n; docker cp d/. $BOX:$D/n`,
		Want:   Answer{Err: "cannot copy directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "folder merges",
		Script: there + `docker exec $BOX sh -c "mkdir -p $D/d/e; echo old >$D/d/e/g; echo kept >$D/d/e/h"; docker cp d $BOX:$D` + tree,
		Want:   Answer{Out: "./d\n./d/e\n./d/e/g inner\n./d/e/h kept\n"},
	},
	{
		Group: "cp in", Name: "folder over a file of its name",
		Script: there + `docker exec $BOX touch $D/d; docker cp d $BOX:$D` + tree,
		Want:   Answer{Out: "./d \n", Err: "Error response from daemon: Error processing tar file(exit status 1): cannot overwrite non-directory \"/tmp/N/d\" with directory \"/tmp/N\"\n"},
		Ours:   &Answer{Out: "./d \n", Err: "Error response from daemon: cannot overwrite non-directory \"/tmp/N/d\" with directory \"/tmp/N\"\n"},
		Why:    "20.10 unpacks in a child process and says so",
	},
	{
		Group: "cp in", Name: "file over a folder of its name",
		Script: there + `docker exec $BOX mkdir $D/f; docker cp f $BOX:$D` + tree,
		Want:   Answer{Out: "./f\n", Err: "Error response from daemon: Error processing tar file(exit status 1): cannot overwrite directory \"/tmp/N/f\" with non-directory \"/tmp/N\"\n"},
		Ours:   &Answer{Out: "./f\n", Err: "Error response from daemon: cannot overwrite directory \"/tmp/N/f\" with non-directory \"/tmp/N\"\n"},
		Why:    "20.10 unpacks in a child process and says so",
	},
	{
		Group: "cp in", Name: "through a link to a folder",
		Script: there + `docker exec $BOX sh -c "mkdir $D/real; ln -s real $D/l"; docker cp f $BOX:$D/l` + tree,
		Want:   Answer{Out: "./l\n./real\n./real/f new\n"},
	},
	{
		Group: "cp in", Name: "through an absolute link",
		Script: there + `docker exec $BOX sh -c "mkdir $D/real; ln -s $D/real $D/l"; docker cp f $BOX:$D/l/n` + tree,
		Want:   Answer{Out: "./l\n./real\n./real/n new\n"},
	},
	{
		Group: "cp in", Name: "over a link to a file",
		Script: there + `docker exec $BOX sh -c "echo old >$D/real; ln -s real $D/l"; docker cp f $BOX:$D/l` + tree,
		Want:   Answer{Out: "./l new\n./real new\n"},
	},
	{
		Group: "cp in", Name: "over a dangling link",
		Script: there + `docker exec $BOX ln -s nosuch $D/l; docker cp f $BOX:$D/l` + tree,
		Want:   Answer{Out: "./l new\n./nosuch new\n"},
	},
	{
		Group: "cp in", Name: "a link as it is",
		Script: there + `ln -s f l; docker cp l $BOX:$D; docker exec $BOX readlink $D/l`,
		Want:   Answer{Out: "f\n"},
	},
	{
		Group: "cp in", Name: "-L",
		Script: there + `ln -s f l; docker cp -L l $BOX:$D` + tree,
		Want:   Answer{Out: "./l new\n"},
	},
	{
		Group: "cp in", Name: "-L of a dangling link",
		Script: there + `ln -s nosuch l; docker cp -L l $BOX:$D`,
		Want:   Answer{Err: "lstat DIR/nosuch: no such file or directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "links in a folder",
		Script: there + `ln -s e/g d/l; ln -s /etc d/abs
			docker cp d $BOX:$D
			docker exec -w $D/d $BOX sh -c 'readlink l; readlink abs'`,
		Want: Answer{Out: "e/g\n/etc\n"},
	},
	{
		Group: "cp in", Name: "owner and mode",
		Script: there + `chown 1234:5678 f; chmod 4755 f; docker cp f $BOX:$D; docker exec $BOX stat -c '%u:%g %a' $D/f`,
		Want:   Answer{Out: "1234:5678 4755\n"},
	},
	{
		Group: "cp in", Name: "owner and mode, -a",
		Script: there + `chown 1234:5678 f; chmod 4755 f; docker cp -a f $BOX:$D; docker exec $BOX stat -c '%u:%g %a' $D/f`,
		Want:   Answer{Out: "1234:5678 4755\n"},
	},
	{
		Group: "cp in", Name: "time",
		Script: there + `touch -d @1000000000 f; docker cp f $BOX:$D; docker exec $BOX stat -c %Y $D/f`,
		Want:   Answer{Out: "1000000000\n"},
	},
	{
		Group: "cp in", Name: "modes of a folder",
		Script: there + `docker cp d $BOX:$D; docker exec -w $D $BOX stat -c '%n %a' d/e d/e/g`,
		Want:   Answer{Out: "d/e 750\nd/e/g 604\n"},
	},
	{
		Group: "cp in", Name: "hard links",
		Script: there + `ln d/e/g d/h; docker cp d $BOX:$D; docker exec -w $D $BOX stat -c '%n %h' d/e/g d/h`,
		Want:   Answer{Out: "d/e/g 2\nd/h 2\n"},
	},
	{
		Group: "cp in", Name: "an empty folder and an empty file",
		Script: there + `mkdir x; : >x/y; docker cp x $BOX:$D` + tree,
		Want:   Answer{Out: "./x\n./x/y \n"},
	},
	{
		Group: "cp in", Name: "odd names",
		Script: there + `mkdir 'a b'; touch 'a b/c:d' $'a b/\xff' 'a b/-e' $'a b/new\nline'
			docker cp 'a b' $BOX:$D
			docker exec -w "$D/a b" $BOX ls -1b`,
		Want: Answer{Err: "ls: invalid option -- 'b'\nBusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.\n\nUsage: ls [-1AaCxdLHRFplinshrSXvctu] [-w WIDTH] [FILE]...\n\nList directory contents\n\n\t-1\tOne column output\n\t-a\tInclude names starting with .\n\t-A\tLike -a, but exclude . and ..\n\t-x\tList by lines\n\t-d\tList directory names, not contents\n\t-L\tFollow symlinks\n\t-H\tFollow symlinks on command line\n\t-R\tRecurse\n\t-p\tAppend / to directory names\n\t-F\tAppend indicator (one of */=@|) to names\n\t-l\tLong format\n\t-i\tList inode numbers\n\t-n\tList numeric UIDs and GIDs instead of names\n\t-s\tList allocated blocks\n\t-lc\tList ctime\n\t-lu\tList atime\n\t--full-time\tList full date/time\n\t-h\tHuman readable sizes (1K 243M 2G)\n\t--group-directories-first\n\t-S\tSort by size\n\t-X\tSort by extension\n\t-v\tSort by version\n\t-t\tSort by mtime\n\t-tc\tSort by ctime\n\t-tu\tSort by atime\n\t-r\tReverse sort order\n\t-w N\tFormat N columns wide\n\t--color[={always,never,auto}]\n", Code: 1},
	},
	{
		Group: "cp in", Name: "relative path in the container",
		Script: `printf new >f; docker cp f $BOX:tmp/$N; docker exec $BOX cat /tmp/$N`,
		Want:   Answer{Out: "new"},
	},
	{
		Group: "cp in", Name: ".. in the path",
		Script: there + `docker cp f $BOX:$D/../$N/../$N/n` + tree,
		Want:   Answer{Out: "./n new\n"},
	},
	{
		Group: "cp in", Name: "no such container",
		Script: `printf new >f; docker cp f nosuch:/tmp`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "cp in", Name: "empty path",
		Script: `printf new >f; docker cp f $BOX:`,
		Want:   Answer{Err: "no such directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "between containers",
		Script: `docker cp $BOX:/etc $BOX:/tmp`,
		Want:   Answer{Err: "copying between containers is not supported\n", Code: 1},
	},
	{
		Group: "cp in", Name: "created container",
		Script: `printf new >f
			docker create --name $N $IMAGE cat /tmp/f >/dev/null
			docker cp f $N:/tmp/f
			docker start -a $N`,
		Want: Answer{Out: "new"},
	},
	{
		Group: "cp in", Name: "exited container",
		Script: `printf new >f
			docker run --name $N $IMAGE sh -c 'cat /tmp/f || echo none'
			docker cp f $N:/tmp/f
			docker start -a $N`,
		Want: Answer{Out: "none\nnew", Err: "cat: can't open '/tmp/f': No such file or directory\n"},
	},
	{
		Group: "cp in", Name: "55 MB",
		Script: there + `seq 7000000 >big
			docker cp big $BOX:$D
			docker exec $BOX sh -c "sha256sum <$D/big"
			docker exec $BOX rm $D/big`,
		Want: Answer{Out: "2e54dad1f9af06eadf5b5d0596bf55f93ebf5cc6750d0d2772a4089ae5045ec4  -\n"},
	},
	{
		Group: "cp in", Name: "1,000 files",
		Script: there + `mkdir m; for i in $(seq 1000); do echo $i >m/$i; done
			docker cp m $BOX:$D
			docker exec -w $D/m $BOX sh -c 'ls | wc -l; cat $(ls | sort -n) | sha256sum'`,
		Want: Answer{Out: "1000\n67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f  -\n"},
	},
	{
		Group: "cp in", Name: "tar on stdin",
		Script: there + `tar c --owner 1234:0 --group 5678:0 f d | docker cp - $BOX:$D; docker exec $BOX stat -c '%u:%g' $D/f` + tree,
		Want:   Answer{Out: "0:0\n./d\n./d/e\n./d/e/g inner\n./f new\n"},
	},
	{
		Group: "cp in", Name: "tar on stdin, -a",
		Script: there + `tar c --owner a:1234 --group b:5678 f | docker cp -a - $BOX:$D; docker exec $BOX stat -c '%u:%g' $D/f` + tree,
		Want:   Answer{Out: "1234:5678\n./f new\n"},
	},
	{
		Group: "cp in", Name: "tar on stdin to nosuch",
		Script: there + `tar c f | docker cp - $BOX:$D/nosuch`,
		Want:   Answer{Err: "destination \"BOX:/tmp/N/nosuch\" must be a directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "tar on stdin over a file",
		Script: there + `docker exec $BOX touch $D/n; tar c f | docker cp - $BOX:$D/n`,
		Want:   Answer{Err: "destination \"BOX:/tmp/N/n\" must be a directory\n", Code: 1},
	},
	{
		Group: "cp in", Name: "tar, gzip",
		Script: there + `tar cz f | docker cp - $BOX:$D` + tree,
		Want:   Answer{Out: "./f new\n"},
	},
	{
		Group: "cp in", Name: "tar with ..",
		Script: there + `tar cP --transform 's,^f$,../../escape-x,' f | docker cp - $BOX:$D` + tree,
		Want:   Answer{Err: "Error response from daemon: Error processing tar file(exit status 1): \"../../escape-x\" is outside of \"/tmp/N\"\n"},
		Ours:   &Answer{Err: "Error response from daemon: the archive's entry \"../../escape-x\" leads out of /tmp/N\n"},
		Why:    "20.10 unpacks in a child process and says so; the same refusal in other words",
	},
	{
		Group: "cp in", Name: "tar with an absolute name",
		Script: there + `tar cP --transform "s,^f$,/n," f | docker cp - $BOX:$D` + tree,
		Want:   Answer{Out: "./n new\n"},
	},
	{
		Group: "cp in", Name: "no tar on stdin",
		Script: there + `seq 10000 | docker cp - $BOX:$D`,
		Want:   Answer{Err: "Error response from daemon: Error processing tar file(exit status 1): archive/tar: invalid tar header\n", Code: 1},
		Ours:   &Answer{Err: "Error response from daemon: cannot read the archive: archive/tar: invalid tar header\n", Code: 1},
		Why:    "20.10 unpacks in a child process and says so",
	},
	{
		Group: "cp in", Name: "a tar that is cut",
		Script: there + `seq 100000 >big; tar c big | head -c 100000 | docker cp - $BOX:$D; docker exec $BOX ls $D`,
		Want:   Answer{Out: "big\n", Err: "Error response from daemon: Error processing tar file(exit status 1): unexpected EOF\n"},
		Ours:   &Answer{Out: "big\n", Err: "Error response from daemon: cannot read the archive: unexpected EOF\n"},
		Why:    "20.10 unpacks in a child process and says so",
	},
	{
		Group: "cp in", Name: "an empty tar",
		Script: there + `tar c -T /dev/null | docker cp - $BOX:$D; docker exec $BOX ls $D`,
		Want:   Answer{},
	},
	{
		Group: "cp in", Name: "sparse file in a tar",
		Script: there + `truncate -s 20M s; printf x >>s; tar cS s | docker cp - $BOX:$D
			docker exec $BOX sha256sum $D/s | cut -d' ' -f1`,
		Want: Answer{Err: "Error response from daemon: Error processing tar file(exit status 1): unhandled tar header type 83\nsha256sum: can't open '/tmp/N/s': No such file or directory\n", Code: 1},
		Ours: &Answer{Out: "ID\n"},
		Why:  "GNU tar's sparse files are unpacked; dockerd refuses them",
	},

	{
		Group: "cp out", Name: "file to a new name",
		Script: `docker cp $BOX:/data/file n` + here,
		Want:   Answer{Out: "./n content of file\n"},
	},
	{
		Group: "cp out", Name: "file into a folder",
		Script: `mkdir x; docker cp $BOX:/data/file x` + here,
		Want:   Answer{Out: "./x\n./x/file content of file\n"},
	},
	{
		Group: "cp out", Name: "file to nosuch/",
		Script: `docker cp $BOX:/data/file x/` + here,
		Want:   Answer{Err: "no such directory\n"},
	},
	{
		Group: "cp out", Name: "file to nosuch/name",
		Script: `docker cp $BOX:/data/file x/y` + here,
		Want:   Answer{Err: "invalid output path: directory \"DIR/x\" does not exist\n"},
	},
	{
		Group: "cp out", Name: "file/ is no folder",
		Script: `docker cp $BOX:/data/file/ n` + here,
		Want:   Answer{Err: "Error response from daemon: lstat ROOT/data/file/: not a directory\n"},
		Ours:   &Answer{Err: "Error response from daemon: extraction point is not a directory\n"},
		Why:    "dockerd tells where it keeps the file",
	},
	{
		Group: "cp out", Name: "no such file",
		Script: `docker cp $BOX:/data/nosuch n`,
		Want:   Answer{Err: "Error response from daemon: Could not find the file /data/nosuch in container BOX\n", Code: 1},
	},
	{
		Group: "cp out", Name: "folder to a new name",
		Script: `docker cp $BOX:/data/sub n` + here,
		Want:   Answer{Out: "./n\n./n/inner content of inner\n"},
	},
	{
		Group: "cp out", Name: "folder into a folder",
		Script: `mkdir x; docker cp $BOX:/data/sub x` + here,
		Want:   Answer{Out: "./x\n./x/sub\n./x/sub/inner content of inner\n"},
	},
	{
		Group: "cp out", Name: "folder/. into a folder",
		Script: `mkdir x; docker cp $BOX:/data/sub/. x` + here,
		Want:   Answer{Out: "./x\n./x/inner content of inner\n"},
	},
	{
		Group: "cp out", Name: "folder/ into a folder",
		Script: `mkdir x; docker cp $BOX:/data/sub/ x` + here,
		Want:   Answer{Out: "./x\n./x/sub\n./x/sub/inner content of inner\n"},
	},
	{
		Group: "cp out", Name: "folder over a file",
		Script: `touch x; docker cp $BOX:/data/sub x`,
		Want:   Answer{Err: "cannot copy directory\n", Code: 1},
	},
	{
		Group: "cp out", Name: "a link as it is",
		Script: `docker cp $BOX:/data/link n; readlink n`,
		Want:   Answer{Out: "file\n"},
	},
	{
		Group: "cp out", Name: "-L",
		Script: `docker cp -L $BOX:/data/link n` + here,
		Want:   Answer{Out: "./n content of file\n"},
	},
	{
		Group: "cp out", Name: "-L of an absolute link",
		Script: `docker cp -L $BOX:/data/abslink n; head -n 1 n`,
		Want:   Answer{Out: "root:x:0:\n"},
	},
	{
		Group: "cp out", Name: "-L of a dangling link",
		Script: `docker cp -L $BOX:/data/dangling n`,
		Want:   Answer{Err: "Error response from daemon: Could not find the file /no/such/file in container BOX\n", Code: 1},
	},
	{
		Group: "cp out", Name: "a dangling link",
		Script: `docker cp $BOX:/data/dangling n; readlink n`,
		Want:   Answer{Out: "/no/such/file\n"},
	},
	{
		Group: "cp out", Name: "-L of a loop",
		Script: `docker cp -L $BOX:/data/loop n`,
		Want:   Answer{Err: "Error response from daemon: evalSymlinksInScope: too many links in ROOT/data/loop\n", Code: 1},
		Ours:   &Answer{},
		Why:    "the link itself is copied",
	},
	{
		Group: "cp out", Name: "a link to a folder",
		Script: `docker cp $BOX:/data/dirlink n; readlink n`,
		Want:   Answer{Out: "sub\n"},
	},
	{
		Group: "cp out", Name: "a link to a folder/.",
		Script: `docker cp $BOX:/data/dirlink/. n` + here,
		Want:   Answer{Out: "./n\n./n/inner content of inner\n"},
	},
	{
		Group: "cp out", Name: "a link to a folder/",
		Script: `docker cp $BOX:/data/dirlink/ n` + here,
		Want:   Answer{Out: "./n\n./n/inner content of inner\n"},
	},
	{
		Group: "cp out", Name: "through a link",
		Script: `docker cp $BOX:/data/dirlink/inner n` + here,
		Want:   Answer{Out: "./n content of inner\n"},
	},
	{
		Group: "cp out", Name: "owner, mode and time",
		Script: `docker cp $BOX:/data/file n; stat -c '%u:%g %a %Y' n`,
		Want:   Answer{Out: "0:0 0 1577836800\n"},
	},
	{
		Group: "cp out", Name: "owner, mode and time, -a",
		Script: `docker cp -a $BOX:/data/file n; stat -c '%u:%g %a %Y' n`,
		Want:   Answer{Out: "0:0 0 1577836800\n"},
	},
	{
		Group: "cp out", Name: "tar on stdout",
		Script: `docker cp $BOX:/data - | tar tv --numeric-owner | sed 's/  */ /g' | cut -d' ' -f1,2,3,6- | sort -k4`,
		Want:   Answer{Out: "drwxr-xr-x 0/0 0 data/\nlrwxrwxrwx 0/0 0 data/abslink -> /etc/group\nlrwxrwxrwx 0/0 0 data/dangling -> /no/such/file\nlrwxrwxrwx 0/0 0 data/dirlink -> sub\ndrwxr-xr-x 0/0 0 data/empty/\nprw-r--r-- 0/0 0 data/fifo\n---------- 0/0 16 data/file\nh--------- 0/0 0 data/hard link to data/file\nlrwxrwxrwx 0/0 0 data/link -> file\nlrwxrwxrwx 0/0 0 data/loop -> loop\n-rwsr-xr-x 0/0 18 data/setuid\ndrwxr-xr-x 0/0 0 data/sub/\n-rw------- 0/0 17 data/sub/inner\n-rw-r--r-- 0/0 21 data/two words\n"},
	},
	{
		Group: "cp out", Name: "tar of a file on stdout",
		Script: `docker cp $BOX:/data/file - | tar xO`,
		Want:   Answer{Out: "content of file\n"},
	},
	{
		Group: "cp out", Name: "tar of a link on stdout",
		Script: `docker cp $BOX:/data/link - | tar t; docker cp -L $BOX:/data/link - | tar t`,
		Want:   Answer{Out: "link\nfile\n"},
	},
	{
		Group: "cp out", Name: "tar of folder/. on stdout",
		Script: `docker cp $BOX:/data/sub/. - | tar t | sort`,
		Want:   Answer{Out: "./\n./inner\n"},
	},
	{
		Group: "cp out", Name: "two words",
		Script: `docker cp "$BOX:/data/two words" n` + here,
		Want:   Answer{Out: "./n content of two words\n"},
	},
	{
		Group: "cp out", Name: "fifo",
		Script: `docker cp $BOX:/data/fifo n; stat -c %F n`,
		Want:   Answer{Out: "fifo\n"},
	},
	{
		Group: "cp out", Name: "device",
		Script: `docker cp $BOX:/dev/null - | tar tv | cut -c1`,
		Want:   Answer{Err: "Error response from daemon: Could not find the file /dev/null in container BOX\ntar: This does not look like a tar archive\ntar: Exiting with failure status due to previous errors\n", Code: 2},
		Ours:   &Answer{Out: "c\n"},
		Why:    "devices of the container are there to be copied",
	},
	{
		Group: "cp out", Name: "from /proc",
		Script: `docker cp $BOX:/proc/self/comm n; echo $?`,
		Want:   Answer{Out: "1\n", Err: "Error response from daemon: Could not find the file /proc/self/comm in container BOX\n"},
	},
	{
		Group: "cp out", Name: "no such container",
		Script: `docker cp nosuch:/etc n`,
		Want:   Answer{Err: "Error response from daemon: No such container: nosuch\n", Code: 1},
	},
	{
		Group: "cp out", Name: "created container",
		Script: `docker create --name $N $IMAGE true >/dev/null; docker cp $N:/data/file n` + here,
		Want:   Answer{Out: "./n content of file\n"},
	},
	{
		Group: "cp out", Name: "exited container",
		Script: `docker run --name $N $IMAGE sh -c 'echo made >/tmp/made'; docker cp $N:/tmp/made n` + here,
		Want:   Answer{Out: "./n made\n"},
	},
	{
		Group: "cp out", Name: "55 MB",
		Script: `docker exec $BOX sh -c "seq 7000000 >/tmp/$N"
			docker cp $BOX:/tmp/$N big; sha256sum <big
			docker exec $BOX rm /tmp/$N`,
		Want: Answer{Out: "2e54dad1f9af06eadf5b5d0596bf55f93ebf5cc6750d0d2772a4089ae5045ec4  -\n"},
	},
	{
		Group: "cp out", Name: "the client leaves",
		Script: `docker exec $BOX sh -c "seq 7000000 >/tmp/$N"
			docker cp $BOX:/tmp/$N - | head -c 512 | tar t 2>/dev/null | sed "s/$N/N/"
			docker exec $BOX rm /tmp/$N`,
		Want: Answer{Out: "N\n"},
	},

	{
		Group: "cp API", Name: "stat",
		Want: Answer{Out: "\"/data/file\": \"file\" 16 ---------- true \"\"\n\"/data/sub\": \"sub\" 0 drwxr-xr-x true \"\"\n\"/data/link\": \"link\" 4 Lrwxrwxrwx true \"/data/file\"\n\"/data/link/\": refused\n\"/data/dirlink\": \"dirlink\" 3 Lrwxrwxrwx true \"/data/sub\"\n\"/data/dirlink/\": \"dirlink\" 0 drwxr-xr-x true \"\"\n\"/data/setuid\": \"setuid\" 18 urwxr-xr-x true \"\"\n\"/data/dangling\": \"dangling\" 13 Lrwxrwxrwx true \"/no/such/file\"\n\"/data/nosuch\": refused\n\"/data/file/\": refused\n\"\": refused\n\"/\": \"/\" 0 drwxr-xr-x false \"\"\n"},
		Ask: func(ctx context.Context, a *Asker) (string, error) {
			var text string
			for _, path := range []string{"/data/file", "/data/sub", "/data/link", "/data/link/", "/data/dirlink", "/data/dirlink/", "/data/setuid", "/data/dangling", "/data/nosuch", "/data/file/", "", "/"} {
				r, err := a.ContainerStatPath(ctx, a.Box, client.ContainerStatPathOptions{Path: path})
				if err != nil {
					text += fmt.Sprintf("%q: refused\n", path)
					continue
				}
				size := r.Stat.Size
				if r.Stat.Mode.IsDir() {
					size = 0 // the file system's own business
				}
				text += fmt.Sprintf("%q: %q %d %v %t %q\n", path, r.Stat.Name, size, r.Stat.Mode, r.Stat.Mtime.Unix() == fileTime, r.Stat.LinkTarget)
			}
			return text, nil
		}},
}
