"""Cases of docker-py against any Docker host, in TAP on stdout. $IMAGE is an image that the host has, $PULL one that it can
pull, if it can, $VERSION the API's to speak: a number, or auto for what is negotiated."""

import io
import os
import sys
import tarfile
import threading
import time
import traceback

import docker
import requests
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

IMAGE = os.environ["IMAGE"]
PULL = os.environ.get("PULL")
ON = os.environ["ON"]

client = docker.from_env(timeout=120, version=os.environ["VERSION"])
version = tuple(int(n) for n in client.api._version.split("."))
cases = []


def case(f):
    cases.append((f.__doc__, f))
    return f


def same(got, want):
    if got != want:
        raise AssertionError(f"{got!r}, want {want!r}")


def eventually(what, f):
    end = time.time() + 60
    while time.time() < end:
        if f():
            return
        time.sleep(0.05)
    raise AssertionError("never: " + what)


def refused(kind, status, words, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except kind as e:
        same((type(e), e.response.status_code), (kind, status))
        if words not in e.explanation:
            raise AssertionError(f"{e.explanation!r} does not say {words!r}") from e
        return
    raise AssertionError("it was not refused")


def archive(name, content, mode=0o644):
    buf = io.BytesIO()
    with tarfile.open(fileobj=buf, mode="w") as t:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.gid = len(content), mode, 5, 6
        t.addfile(info, io.BytesIO(content))
    return buf.getvalue()


class box:
    """A container of a case's own, which is removed behind it."""

    def __init__(self, command="sleep 1000", **kwargs):
        self.container = client.containers.run(IMAGE, command, detach=True, **kwargs)

    def __enter__(self):
        return self.container

    def __exit__(self, *_):
        self.container.remove(force=True, v=True)


@case
def ping_and_version():
    """ping, version and info"""
    same(client.ping(), True)
    v = client.version()
    same((v["Os"], v["Components"][0]["Name"]), ("linux", "Engine"))
    info = client.info()
    same(info["OSType"], "linux")
    if not info["MemTotal"] > 0:
        raise AssertionError(info["MemTotal"])


@case
def negotiated():
    """a version that is negotiated"""
    c = docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version="auto")
    same(c.api._version, client.version()["ApiVersion"])
    same(c.ping(), True)
    same(c.containers.list(filters={"name": "nosuch"}), [])
    c.close()


@case
def run_attached():
    """run gives the output"""
    same(client.containers.run(IMAGE, "echo hello", remove=True), b"hello\n")


@case
def run_streams():
    """run gives the streams that were asked for"""
    script = ["sh", "-c", "echo out; echo err >&2"]
    same(client.containers.run(IMAGE, script, remove=True), b"out\n")
    same(client.containers.run(IMAGE, script, remove=True, stdout=False, stderr=True), b"err\n")


@case
def run_fails():
    """run of what fails raises its output"""
    try:
        client.containers.run(IMAGE, ["sh", "-c", "echo no >&2; exit 7"], remove=True)
    except ContainerError as e:
        same((e.exit_status, e.stderr), (7, b"no\n"))
        return
    raise AssertionError("it did not fail")


@case
def run_stream():
    """run yields the output as it comes"""
    out = client.containers.run(IMAGE, ["sh", "-c", "echo one; sleep 1; echo two"], stream=True, remove=True)
    same(b"".join(out), b"one\ntwo\n")


@case
def run_no_image():
    """run of an image that is nowhere"""
    name = "127.0.0.1:1/nosuch:1"
    try:
        client.containers.run(name, "true")
    except (ImageNotFound, APIError):
        return
    raise AssertionError("it was not refused")


@case
def run_options():
    """run takes environment, folder, labels, user and names"""
    with box(["sh", "-c", "echo $A $PWD; sleep 1000"], name="py-options", environment={"A": "b c"}, working_dir="/tmp",
             labels={"color": "red", "x.y/z": ""}, hostname="named", mem_limit="512m", nano_cpus=500_000_000) as c:
        eventually("the log", lambda: c.logs() == b"b c /tmp\n")
        c.reload()
        same((c.name, c.labels, c.status), ("py-options", {"color": "red", "x.y/z": ""}, "running"))
        same(c.attrs["HostConfig"]["Memory"], 512 << 20)
        same(c.image.id, client.images.get(IMAGE).id)


@case
def logs():
    """logs, their tail, times and streams"""
    with box(["sh", "-c", "for i in 1 2 3; do echo $i; done; sleep .5; echo e >&2"]) as c:
        same(c.wait()["StatusCode"], 0)
        same(c.logs(stderr=False), b"1\n2\n3\n")
        same(c.logs(stdout=False), b"e\n")
        same(c.logs(tail=2), b"3\ne\n")
        stamp, text = c.logs(stderr=False, tail=2, timestamps=True).split(b" ")
        same((stamp[:2], text), (b"20", b"3\n"))
        same(c.logs(since=int(time.time()) + 100), b"")


@case
def logs_followed():
    """logs that are followed end with the container"""
    with box(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 1; done"]) as c:
        same(b"".join(c.logs(stream=True, follow=True)), b"1\n2\n3\n")


@case
def attach():
    """attach to the output, framed and apart"""
    c = client.containers.create(IMAGE, ["sh", "-c", "echo out; sleep 1; echo err >&2"])
    try:
        out = c.attach(stream=True, logs=True, demux=True)
        c.start()
        pieces = list(out)
        same(b"".join(o for o, _ in pieces if o), b"out\n")
        same(b"".join(e for _, e in pieces if e), b"err\n")
    finally:
        c.remove(force=True)


@case
def attach_socket():
    """attach a socket and write to stdin"""
    c = client.containers.create(IMAGE, "cat", stdin_open=True, tty=True)
    try:
        sock = c.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        c.start()
        sock._sock.sendall(b"hello\n")
        got = b""
        sock._sock.settimeout(60)
        while got.count(b"hello") < 2:  # the terminal's echo, and cat
            got += sock._sock.recv(1000)
        sock.close()
    finally:
        c.remove(force=True)


@case
def exec_run():
    """exec_run gives the exit code and the output"""
    with box() as c:
        code, out = c.exec_run("echo hello")
        same((code, out), (0, b"hello\n"))
        code, out = c.exec_run(["sh", "-c", "echo $A in $PWD; exit 3"], environment={"A": "b"}, workdir="/tmp")
        same((code, out), (3, b"b in /tmp\n"))
        code, out = c.exec_run(["nosuch"])
        same(code in (126, 127), True)
        same(b"executable file not found" in out, True)


@case
def exec_demux():
    """exec_run keeps the streams apart"""
    with box() as c:
        code, out = c.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
        same((code, out), (0, (b"out\n", b"err\n")))
        code, out = c.exec_run(["sh", "-c", "echo out; sleep 1; echo err >&2"], demux=True, stream=True)
        pieces = list(out)
        same((code, b"".join(o for o, _ in pieces if o), b"".join(e for _, e in pieces if e)), (None, b"out\n", b"err\n"))


@case
def exec_tty():
    """exec_run on a terminal"""
    with box() as c:
        same(c.exec_run("echo hello", tty=True), (0, b"hello\r\n"))


@case
def exec_detached():
    """exec_run behind"""
    with box() as c:
        same(c.exec_run(["sh", "-c", "echo x >/tmp/made"], detach=True).output, "")
        eventually("the file", lambda: c.exec_run("cat /tmp/made").output == b"x\n")


@case
def exec_socket():
    """exec_run gives a socket that is written and half closed"""
    import socket as sockets

    with box() as c:
        sock = c.exec_run("sort", stdin=True, socket=True).output._sock
        sock.settimeout(60)
        sock.sendall(b"b\na\n")
        sock.shutdown(sockets.SHUT_WR)
        got = b""
        while True:
            piece = sock.recv(1000)
            if not piece:
                break
            got += piece
        same(got, b"\x01\0\0\0\0\0\0\x04a\nb\n")
        sock.close()


@case
def exec_inspect():
    """the exec operations one by one"""
    with box() as c:
        x = client.api.exec_create(c.id, ["sh", "-c", "exit 4"], tty=False)["Id"]
        seen = client.api.exec_inspect(x)
        same((seen["Running"], seen["ExitCode"], seen["ContainerID"]), (False, None, c.id))
        same(client.api.exec_start(x), b"")
        eventually("the end", lambda: client.api.exec_inspect(x)["ExitCode"] == 4)


@case
def files():
    """put_archive and get_archive"""
    with box() as c:
        same(c.put_archive("/tmp", archive("f", b"content\n", 0o640)), True)
        same(c.exec_run("cat /tmp/f").output, b"content\n")
        bits, stat = c.get_archive("/tmp/f")
        same((stat["name"], stat["size"], stat["mode"] & 0o777, stat["linkTarget"]), ("f", 8, 0o640, ""))
        with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as t:
            info = t.getmember("f")
            same((info.mode & 0o777, info.uid, info.gid, t.extractfile(info).read()), (0o640, 5, 6, b"content\n"))
        big = os.urandom(8 << 20)
        same(c.put_archive("/tmp", archive("big", big)), True)
        bits, _ = c.get_archive("/tmp/big")
        with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as t:
            same(t.extractfile("big").read() == big, True)
        refused(NotFound, 404, "/no/such", c.get_archive, "/no/such")
        refused(NotFound, 404, "", c.put_archive, "/no/such", archive("f", b""))


@case
def files_early():
    """put_archive before the start"""
    c = client.containers.create(IMAGE, "cat /tmp/early")
    try:
        same(c.put_archive("/tmp", archive("early", b"content\n")), True)
        c.start()
        same(c.wait()["StatusCode"], 0)
        same(c.logs(), b"content\n")
    finally:
        c.remove(force=True)


@case
def diff_and_export():
    """diff and export"""
    with box(["sh", "-c", "echo x >/tmp/made; sleep 1000"]) as c:
        eventually("the file", lambda: {"Path": "/tmp/made", "Kind": 1} in (c.diff() or []))
        with tarfile.open(fileobj=io.BytesIO(b"".join(c.export()))) as t:
            same(t.extractfile("tmp/made").read(), b"x\n")


@case
def wait():
    """wait for each condition"""
    with box(["sh", "-c", "sleep 1; exit 9"]) as c:
        same(c.wait()["StatusCode"], 9)
        same(c.wait(condition="not-running")["StatusCode"], 9)
        codes = []
        waiter = threading.Thread(target=lambda: codes.append(c.wait(condition="next-exit", timeout=100)["StatusCode"]))
        waiter.start()
        while waiter.is_alive():  # the wait may come behind the start
            c.start()
            waiter.join(3)
        same(codes, [9])
    c = client.containers.run(IMAGE, "sleep 10", detach=True, auto_remove=True)
    same(c.wait(condition="removed")["StatusCode"], 0)
    refused(NotFound, 404, "No such container: " + c.id, client.containers.get, c.id)


@case
def wait_timeout():
    """a wait that takes too long for the client"""
    with box() as c:
        try:
            c.wait(timeout=1)
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
            return
        raise AssertionError("it did not time out")


@case
def life():
    """stop, start, restart, kill, pause and rename"""
    with box(["sh", "-c", "trap 'exit 3' TERM; while :; do sleep .1; done"]) as c:
        def status():
            c.reload()
            return c.status

        eventually("the trap", lambda: any(p[-1].startswith("sleep") for p in c.top()["Processes"]))
        c.pause()
        same(status(), "paused")
        refused(APIError, 409, "is paused", c.exec_run, "true")
        c.unpause()
        same(status(), "running")
        c.stop(timeout=60)
        same((status(), c.attrs["State"]["ExitCode"]), ("exited", 3))
        c.start()
        same(status(), "running")
        c.restart(timeout=0)
        same(status(), "running")
        c.kill()
        same((c.wait()["StatusCode"], status()), (137, "exited"))
        c.rename("py-renamed")
        c.reload()
        same(c.name, "py-renamed")
        same(client.containers.get("py-renamed").id, c.id)
        c.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
        c.reload()
        same(c.attrs["HostConfig"]["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 2})


@case
def refusals():
    """what cannot be raises what docker-py knows"""
    refused(NotFound, 404, "No such container: nosuch", client.containers.get, "nosuch")
    refused(ImageNotFound, 404, "nosuch:1", client.images.get, "nosuch:1")
    refused(NotFound, 404, "nosuch", client.networks.get, "nosuch")
    refused(NotFound, 404, "nosuch", client.volumes.get, "nosuch")
    refused(NotFound, 404, "No such exec instance: nosuch", client.api.exec_inspect, "nosuch")
    refused(APIError, 400, "nvalid filter", client.containers.list, filters={"nosuch": "x"})
    with box(name="py-taken") as c:
        refused(APIError, 409, 'The container name "/py-taken" is already in use', client.containers.create, IMAGE, name="py-taken")
        refused(APIError, 409, "running container" if ON == "dockerd" else "is running", c.remove)
        refused(APIError, 409, "is not paused", c.unpause) if ON != "dockerd" else None
        c.kill()
        c.wait()
        refused(APIError, 409, "is not running", c.kill)
        refused(APIError, 409, "is not running", c.exec_run, "true")


@case
def top_and_stats():
    """top and stats"""
    with box() as c:
        top = c.top(ps_args="-o pid,args")
        same(top["Titles"], ["PID", "COMMAND"])
        same(any("sleep 1000" in p[1] for p in top["Processes"]), True)
        once = c.stats(stream=False)
        same(once["id"], c.id)
        same(once["memory_stats"]["usage"] > 0 and once["cpu_stats"]["system_cpu_usage"] > 0, True)
        seen = []
        for s in c.stats(decode=True):
            seen.append(s["read"])
            if len(seen) == 2:
                break
        same(len(set(seen)), 2)


@case
def lists():
    """list by status, label, name, ancestor and before"""
    with box(labels={"case": "lists"}, name="py-first") as a, box("true", labels={"case": "lists"}, name="py-second") as b:
        b.wait()

        def names(**kwargs):
            filters = dict(kwargs.pop("filters", {}), label="case=lists")
            return [c.name for c in client.containers.list(filters=filters, **kwargs)]

        same(names(), ["py-first"])
        same(names(all=True), ["py-second", "py-first"])
        same(names(filters={"status": "exited"}), ["py-second"])
        same(names(all=True, filters={"name": "first"}), ["py-first"])
        same(names(all=True, filters={"ancestor": IMAGE}), ["py-second", "py-first"])
        same(names(all=True, filters={"before": "py-second"}), ["py-first"])
        same(names(limit=1), ["py-second"])
        same(client.containers.list(all=True, sparse=True, filters={"id": a.id})[0].id, a.id)


@case
def ports():
    """ports that are exposed"""
    with box(labels={"case": "ports"}) as c:
        c.reload()
        same(c.ports, {})
    c = client.containers.create(IMAGE, "sleep 1000", ports=None)
    c.remove()
    made = client.api.create_container(IMAGE, "sleep 1000", ports=[80])
    try:
        client.api.start(made)
        same(client.containers.get(made["Id"]).ports, {"80/tcp": None})
    finally:
        client.api.remove_container(made, force=True)


@case
def events():
    """events of the past, and as they come"""
    begun = time.time()
    stream = client.events(decode=True, since=int(begun), filters={"label": "case=events"})
    with box("true", labels={"case": "events"}) as c:
        c.wait()
    seen = []
    for e in stream:
        seen.append((e["Type"], e["Action"], e["Actor"]["ID"], e["Actor"]["Attributes"]["case"]))
        same((e.get("status"), e.get("id")), (e["Action"], c.id) if version < (1, 52) else (None, None))
        if e["Action"] == "destroy":
            break
    stream.close()
    same([s for _, s, _, _ in seen if s not in ("attach", "resize")], ["create", "start", "die", "destroy"])
    same({(t, i, v) for t, _, i, v in seen}, {("container", c.id, "events")})
    past = list(client.events(decode=True, since=int(begun), until=int(time.time()) + 1, filters={"container": c.id, "event": "die"}))
    same([e["Actor"]["Attributes"]["exitCode"] for e in past], ["0"])


@case
def images():
    """list, get, history of tags, and remove a tag"""
    image = client.images.get(IMAGE)
    same(IMAGE in image.tags, True)
    same(image.id in [i.id for i in client.images.list()], True)
    same(image.tag("py-other", tag="2"), True)
    same([i.id for i in client.images.list(name="py-other")], [image.id])
    same("py-other:2" in client.images.get("py-other:2").tags, True)
    client.images.remove("py-other:2")
    same(client.images.list(name="py-other"), [])
    refused(ImageNotFound, 404, "py-other:2", client.images.remove, "py-other:2")


@case
def networks():
    """networks: create, list, connect, disconnect, remove, prune"""
    n = client.networks.create("py-net", labels={"case": "networks"})
    same([x.id for x in client.networks.list(filters={"label": "case=networks"})], [n.id])
    same([x.id for x in client.networks.list(names=["py-net"])], [n.id])
    with box() as c:
        n.connect(c)
        n.reload()
        same([x.id for x in n.containers], [c.id])
        c.reload()
        same("py-net" in c.attrs["NetworkSettings"]["Networks"], True)
        refused(APIError, 403, "has active endpoints", n.remove)
        n.disconnect(c)
        n.reload()
        same(n.containers, [])
    refused(APIError, 409, "already exists", client.networks.create, "py-net", check_duplicate=True)
    same(client.networks.prune(filters={"label": "case=networks"})["NetworksDeleted"], ["py-net"])


@case
def volumes():
    """volumes: create, list, inspect, remove, prune"""
    v = client.volumes.create("py-volume", labels={"case": "volumes"})
    same((v.name, v.attrs["Labels"]), ("py-volume", {"case": "volumes"}))
    same([x.name for x in client.volumes.list(filters={"label": "case=volumes"})], ["py-volume"])
    same(client.volumes.get("py-volume").attrs["Driver"], "local")
    v.remove()
    refused(NotFound, 404, "py-volume", client.volumes.get, "py-volume")
    client.volumes.create("py-pruned", labels={"case": "volumes"})
    filters = {"label": "case=volumes"}
    if version >= (1, 42):  # since then it is for anonymous ones unless all are meant
        same(client.volumes.prune(filters=filters)["VolumesDeleted"], [])
        filters["all"] = "true"
    same(client.volumes.prune(filters=filters)["VolumesDeleted"], ["py-pruned"])


@case
def prune():
    """prune of containers, and df"""
    with box("true", labels={"case": "prune"}) as c:
        c.wait()
        usage = client.df()
        if version < (1, 52):
            same([x["Id"] for x in usage["Containers"] if x["Id"] == c.id], [c.id])
        else:
            same(usage["ContainerUsage"]["TotalCount"] >= 1, True)
        same(client.containers.prune(filters={"label": "case=prune"})["ContainersDeleted"], [c.id])
        refused(NotFound, 404, "No such container", client.containers.get, c.id)
        c.remove = lambda **_: None


def pulls():
    """pull, by a stream of progress too"""
    image = client.images.pull(PULL)
    same(PULL in image.tags, True)
    same(client.containers.run(PULL, "echo pulled", remove=True), b"pulled\n")
    lines = list(client.api.pull(PULL, stream=True, decode=True))
    same(all("status" in line for line in lines), True)
    same(any("Status: " in line["status"] for line in lines), True)
    refused(NotFound, 404, "manifest unknown", client.images.pull, PULL.rsplit("/", 1)[0] + "/nosuch", tag="1")
    client.images.remove(PULL)
    refused(ImageNotFound, 404, "No such image: ", client.images.get, PULL)


def main():
    if PULL:
        cases.insert(0, (pulls.__doc__, pulls))
    print(f"1..{len(cases)}", flush=True)
    bad = 0
    for n, (name, f) in enumerate(cases, 1):
        try:
            f()
            print(f"ok {n} - {name}", flush=True)
        except Exception:  # whatever it is, the case has failed
            bad += 1
            print(f"not ok {n} - {name}\n{traceback.format_exc()}", flush=True)
    client.close()
    sys.exit(0)


main()
