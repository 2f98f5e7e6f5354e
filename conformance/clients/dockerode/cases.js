// Cases of dockerode against any Docker host, in TAP on stdout. $IMAGE is an image that the host has, $PULL one that it can
// pull, if it can.
'use strict';

const assert = require('node:assert/strict');
const { PassThrough } = require('node:stream');
const { setTimeout: sleep } = require('node:timers/promises');
const Docker = require('dockerode');
const tar = require('tar-stream');

const { IMAGE, PULL, DOCKER_HOST } = process.env;
const docker = new Docker({ socketPath: DOCKER_HOST.replace('unix://', '') });
const cases = [];

// text collects a stream until it ends.
async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces.map((p) => Buffer.from(p))).toString();
}

// apart takes multiplexed output apart, by dockerode's own means.
async function apart(stream) {
  const out = new PassThrough();
  const err = new PassThrough();
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([text(out), text(err)]);
}

async function box(options, f) {
  const c = await docker.createContainer({ Image: IMAGE, Cmd: ['sleep', '1000'], ...options });
  try {
    await f(c);
  } finally {
    await c.remove({ force: true, v: true });
  }
}

async function running(options, f) {
  await box(options, async (c) => {
    await c.start();
    await f(c);
  });
}

// refused wants a status, and words in the message if there is one.
async function refused(promise, status, words) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.statusCode, status);
    if (words) assert.match(e.json.message, words);
    return true;
  });
}

async function exec(c, options, start = {}) {
  const x = await c.exec({ AttachStdout: true, AttachStderr: true, ...options });
  return [x, await x.start(start)];
}

const test = (name, f) => cases.push([name, f]);

test('ping, version and info', async () => {
  assert.equal((await docker.ping()).toString(), 'OK');
  assert.equal((await docker.version()).Os, 'linux');
  assert.equal((await docker.info()).OSType, 'linux');
});

test('run with its output', async () => {
  const out = new PassThrough();
  const said = text(out);
  const [result, container] = await docker.run(IMAGE, ['sh', '-c', 'echo hello; exit 3'], out);
  out.end();
  assert.equal(result.StatusCode, 3);
  assert.equal(await said, 'hello\r\n');
  await container.remove();
});

test('attach before the start, and streams apart', async () => {
  await box({ Cmd: ['sh', '-c', 'echo out; sleep .5; echo err >&2'] }, async (c) => {
    const stream = await c.attach({ stream: true, stdout: true, stderr: true });
    const said = apart(stream);
    await c.start();
    assert.deepEqual(await said, ['out\n', 'err\n']);
  });
});

test('attach with hijack and stdin', async () => {
  await box({ Cmd: ['sort'], OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true }, async (c) => {
    const stream = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const said = apart(stream);
    await c.start();
    stream.write('b\na\n');
    stream.end();
    assert.deepEqual(await said, ['a\nb\n', '']);
    assert.equal((await c.wait()).StatusCode, 0);
  });
});

test('exec with its output and exit code', async () => {
  await running({}, async (c) => {
    const [x, stream] = await exec(c, { Cmd: ['sh', '-c', 'echo $A in $PWD; echo err >&2; exit 3'], Env: ['A=b'], WorkingDir: '/tmp' });
    assert.deepEqual(await apart(stream), ['b in /tmp\n', 'err\n']);
    const seen = await x.inspect();
    assert.deepEqual([seen.Running, seen.ExitCode, seen.ContainerID], [false, 3, c.id]);
  });
});

test('exec with hijack and stdin', async () => {
  await running({}, async (c) => {
    const [x, stream] = await exec(c, { Cmd: ['sort'], AttachStdin: true }, { hijack: true, stdin: true });
    const said = apart(stream);
    stream.write('b\na\n');
    stream.end();
    assert.deepEqual(await said, ['a\nb\n', '']);
    assert.equal((await x.inspect()).ExitCode, 0);
  });
});

test('exec on a terminal', async () => {
  await running({}, async (c) => {
    const [, stream] = await exec(c, { Cmd: ['echo', 'hello'], Tty: true }, { hijack: true, Tty: true });
    assert.equal(await text(stream), 'hello\r\n');
  });
});

test('logs, whole and followed', async () => {
  await running({ Cmd: ['sh', '-c', 'echo 1; sleep 1; echo 2; echo e >&2'] }, async (c) => {
    const followed = await c.logs({ follow: true, stdout: true, stderr: true });
    assert.deepEqual(await apart(followed), ['1\n2\n', 'e\n']);
    const whole = await c.logs({ stdout: true });
    assert.equal(whole.toString(), '\x01\0\0\0\0\0\0\x021\n\x01\0\0\0\0\0\0\x022\n');
  });
});

test('putArchive and getArchive', async () => {
  await running({}, async (c) => {
    const pack = tar.pack();
    pack.entry({ name: 'f', mode: 0o640, uid: 5, gid: 6 }, 'content\n');
    pack.finalize();
    await c.putArchive(pack, { path: '/tmp' });
    const info = await c.infoArchive({ path: '/tmp/f' });
    assert.ok(info.headers['x-docker-container-path-stat']);
    const extract = tar.extract();
    const seen = [];
    extract.on('entry', ({ name, mode, uid, gid }, entry, next) => {
      text(entry).then((content) => seen.push([name, mode & 0o777, uid, gid, content])).then(() => next(), next);
    });
    const read = new Promise((resolve, reject) => extract.on('finish', resolve).on('error', reject));
    (await c.getArchive({ path: '/tmp/f' })).pipe(extract);
    await read;
    assert.deepEqual(seen, [['f', 0o640, 5, 6, 'content\n']]);
    await refused(c.getArchive({ path: '/no/such' }), 404);
  });
});

test('life: pause, stop, restart, kill, rename', async () => {
  await running({ Cmd: ['sh', '-c', "trap 'exit 3' TERM; echo ready; while :; do sleep .1; done"], name: 'ode-life' }, async (c) => {
    const state = async () => (await c.inspect()).State;
    while (!(await c.logs({ stdout: true })).toString().includes('ready')) await sleep(50);
    await c.pause();
    assert.equal((await state()).Status, 'paused');
    await c.unpause();
    await c.stop({ t: 60 });
    assert.equal((await state()).ExitCode, 3);
    await refused(c.stop(), 304);
    await c.restart({ t: 0 });
    assert.equal((await state()).Running, true);
    await c.kill();
    assert.equal((await c.wait()).StatusCode, 137);
    await c.rename({ name: 'ode-renamed' });
    assert.equal((await c.inspect()).Name, '/ode-renamed');
  });
});

test('what cannot be', async () => {
  await refused(docker.getContainer('nosuch').inspect(), 404, /^No such container: nosuch$/);
  await refused(docker.getImage('nosuch:1').inspect(), 404, /No such image: nosuch:1$/);
  await refused(docker.getNetwork('nosuch').inspect(), 404, /nosuch/);
  await refused(docker.getVolume('nosuch').inspect(), 404, /nosuch/);
  await refused(docker.listContainers({ filters: { nosuch: ['x'] } }), 400, /nvalid filter 'nosuch'/);
  await running({ name: 'ode-taken' }, async (c) => {
    await refused(docker.createContainer({ Image: IMAGE, name: 'ode-taken' }), 409, /"\/ode-taken" is already in use/);
    await refused(c.remove(), 409, /running/);
    await c.kill();
    await c.wait();
    await refused(c.kill(), 409, /is not running/);
  });
});

test('top, stats, lists', async () => {
  await running({ Labels: { case: 'lists' } }, async (c) => {
    assert.ok((await c.top()).Processes.length > 0);
    assert.ok((await c.stats({ stream: false })).memory_stats.usage > 0);
    const list = await docker.listContainers({ filters: { label: ['case=lists'] } });
    assert.deepEqual(list.map((x) => [x.Id, x.State]), [[c.id, 'running']]);
  });
});

test('events as they come', async () => {
  const stream = await docker.getEvents({ filters: { label: ['case=events'] } });
  const seen = [];
  const gone = new Promise((resolve, reject) => {
    let rest = '';
    stream.on('error', reject);
    stream.on('data', (b) => {
      rest += b;
      for (let i; (i = rest.indexOf('\n')) >= 0; rest = rest.slice(i + 1)) {
        const e = JSON.parse(rest.slice(0, i));
        seen.push(e.Action);
        if (e.Action === 'destroy') resolve();
      }
    });
  });
  await running({ Cmd: ['true'], Labels: { case: 'events' } }, async (c) => { await c.wait(); });
  await gone;
  stream.destroy();
  assert.deepEqual(seen, ['create', 'start', 'die', 'destroy']);
});

test('images: list, tag, remove', async () => {
  const image = await docker.getImage(IMAGE).inspect();
  await docker.getImage(IMAGE).tag({ repo: 'ode-other', tag: '2' });
  assert.deepEqual((await docker.listImages({ filters: { reference: ['ode-other:2'] } })).map((i) => i.Id), [image.Id]);
  assert.deepEqual(await docker.getImage('ode-other:2').remove(), [{ Untagged: 'ode-other:2' }]);
});

test('networks and volumes', async () => {
  const n = await docker.createNetwork({ Name: 'ode-net', Labels: { case: 'net' } });
  await running({}, async (c) => {
    await n.connect({ Container: c.id });
    assert.deepEqual(Object.keys((await n.inspect()).Containers), [c.id]);
    await refused(n.remove(), 403, /has active endpoints/);
    await n.disconnect({ Container: c.id });
  });
  await n.remove();
  const v = await docker.createVolume({ Name: 'ode-volume', Labels: { case: 'volume' } });
  assert.equal(v.name ?? v.Name, 'ode-volume');
  assert.deepEqual((await docker.listVolumes({ filters: { label: ['case=volume'] } })).Volumes.map((x) => x.Name), ['ode-volume']);
  await docker.getVolume('ode-volume').remove();
});

if (PULL) {
  test('pull with followProgress', async () => {
    const stream = await docker.pull(PULL);
    const lines = await new Promise((resolve, reject) => docker.modem.followProgress(stream, (e, all) => (e ? reject(e) : resolve(all))));
    assert.ok(lines.some((l) => /^Status: /.test(l.status)));
    assert.ok((await docker.getImage(PULL).inspect()).RepoTags.includes(PULL));
    await refused(docker.pull(PULL.replace(/[^/]*$/, 'nosuch:1')), 404);
  });
}

async function main() {
  console.log(`1..${cases.length}`);
  for (const [i, [name, f]] of cases.entries()) {
    const late = sleep(120000, undefined, { ref: false }).then(() => { throw new Error('it hangs'); });
    try {
      await Promise.race([f(), late]);
      console.log(`ok ${i + 1} - ${name}`);
    } catch (e) {
      console.log(`not ok ${i + 1} - ${name}\n${e.stack}`);
    }
  }
  process.exit(0);
}

main();
