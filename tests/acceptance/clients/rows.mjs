// Drives the daemon of sandboxes that run already by the published JavaScript SDK, unmodified: `rows.mjs MODULE direct|proxied PLACE…`, with places as in
// rows.py. Each part is a row of the acceptance list. Anything unexpected is an assertion error.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [module, way, ...places] = process.argv.slice(2);
const { Sandbox, ConnectionConfig } = await import(pathToFileURL(module).href);
const text = (messages) => messages.map((m) => m.text).join("");
const refused = (call, status) => assert.rejects(call, (e) => e.statusCode === status || assert.fail(`${e}: not ${status}`));

const rows = {
  async row20({ box }) {
    assert.equal(await box.isHealthy(), true);
  },
  async row21({ box, shell }) {
    const seen = [];
    const hear = (kind) => () => void seen.push(kind);
    const run = await box.commands.run("echo out; echo err >&2; exit 3", undefined, {
      onInit: hear("init"), onStdout: hear("stdout"), onStderr: hear("stderr"), onError: hear("error"), onExecutionComplete: hear("complete"),
    });
    assert.equal(run.error.name, "CommandExecError");
    assert.deepEqual([seen[0], seen.at(-1), seen.includes("complete")], ["init", "error", false]);
    if (!shell) return assert.match(run.error.value, /no shell/); // and this SDK has no other way to start a command
    assert.deepEqual([text(run.logs.stdout), text(run.logs.stderr), run.exitCode], ["out\n", "err\n", 3]);
  },
  async row22({ box, shell, owner }) {
    await refused(box.commands.run("true", { workingDirectory: "/no/such" }), 400);
    if (!shell) return;
    let run = await box.commands.run("printf 'a\\r\\n\\nb'; pwd; echo $FROM-$X", { workingDirectory: "/tmp", envs: { X: "y" }, timeoutSeconds: 60 });
    assert.deepEqual([text(run.logs.stdout), run.exitCode], ["a\r\n\nb/tmp\ncreate-y\n", 0]);
    run = await box.commands.run("sleep 300", { timeoutSeconds: 1 });
    assert.equal(run.exitCode, -1);
    run = await box.commands.run("id -u; id -g", { uid: 4321, gid: 5432 });
    if (owner === "root") assert.equal(text(run.logs.stdout), "4321\n5432\n");
    else assert.match(run.error.value, /SETUID/);
  },
  async row23({ box, shell }) {
    await refused(box.commands.getCommandStatus("none"), 404);
    if (!shell) return;
    const run = await box.commands.run("echo one; exec sleep 3600", { background: true });
    let logs;
    for (let i = 0; i < 600; i++) {
      logs = await box.commands.getBackgroundCommandLogs(run.id);
      if (logs.content === "one\n") break;
      await new Promise((r) => setTimeout(r, 100));
    }
    assert.deepEqual([logs.content, logs.cursor], ["one\n", 4]);
    assert.equal((await box.commands.getBackgroundCommandLogs(run.id, 2)).content, "e\n");
    let status = await box.commands.getCommandStatus(run.id);
    assert.deepEqual([status.id, status.running, status.exitCode ?? null], [run.id, true, null]);
    await box.commands.interrupt(run.id);
    status = await box.commands.getCommandStatus(run.id);
    assert.deepEqual([status.running, status.exitCode], [false, -1]);
  },
  async row24({ box, shell }) {
    if (!shell) return refused(box.commands.createSession(), 500);
    const session = await box.commands.createSession();
    await box.commands.runInSession(session, "export A=1; cd /tmp");
    assert.equal(text((await box.commands.runInSession(session, "echo $A $PWD $FROM")).logs.stdout), "1 /tmp create\n");
    await box.commands.deleteSession(session);
  },
  async row25({ box, at, owner }) {
    async function* chunks() {
      for (let i = 0; i < 10; i++) yield new Uint8Array(10000).fill(i);
    }
    await box.files.createDirectories([{ path: `${at}/sub`, mode: 750 }]);
    await box.files.writeFiles([
      { path: `${at}/a b.txt`, data: "hällo\nline two\n", mode: 644 }, { path: `${at}/sub/b.bin`, data: chunks() }, { path: `${at}/empty`, data: "" },
    ]);
    await box.files.setPermissions([{ path: `${at}/empty`, mode: 640 }]);
    const info = await box.files.getFileInfo([`${at}/a b.txt`, `${at}/sub`, `${at}/empty`]);
    assert.deepEqual(Object.values(info).map((i) => [i.mode, i.owner]).sort(), [[640, owner], [644, owner], [750, owner]]);
  },
  // Reads what row 25 has written, and takes it away.
  async row26({ box, at }) {
    const paths = (entries) => entries.map((e) => e.path);
    assert.equal(await box.files.readFile(`${at}/a b.txt`), "hällo\nline two\n");
    assert.equal(await box.files.readFile(`${at}/a b.txt`, { offset: 2, limit: 1 }), "line two");
    assert.equal(await box.files.readFile(`${at}/a b.txt`, { range: "bytes=0-0" }), "h");
    assert.equal((await box.files.readBytes(`${at}/empty`)).length, 0);
    let size = 0;
    for await (const chunk of box.files.readBytesStream(`${at}/sub/b.bin`)) size += chunk.length;
    assert.equal(size, 100000);
    assert.deepEqual(paths(await box.files.search({ path: at, pattern: "*.txt" })), [`${at}/a b.txt`]);
    assert.deepEqual(await box.files.search({ path: at, pattern: "nothing*" }), []);
    assert.deepEqual(paths(await box.files.listDirectory({ path: at, depth: 2 })), [`${at}/a b.txt`, `${at}/empty`, `${at}/sub`, `${at}/sub/b.bin`]);
    const replaced = await box.files.replaceContentsDetailed([{ path: `${at}/a b.txt`, oldContent: "l", newContent: "L" }]);
    assert.deepEqual(replaced.map((r) => r.replacedCount), [3]);
    await box.files.replaceContents([{ path: `${at}/a b.txt`, oldContent: "L", newContent: "l" }]);
    await box.files.moveFiles([{ src: `${at}/a b.txt`, dest: `${at}/new/a` }]);
    assert.equal(await box.files.readFile(`${at}/new/a`), "hällo\nline two\n");
    await box.files.deleteFiles([`${at}/new/a`, `${at}/none`]);
    await refused(box.files.readFile(`${at}/new/a`), 404);
    await box.files.deleteDirectories([at]);
    await refused(box.files.listDirectory({ path: at }), 404);
  },
  async row28({ box, at }) {
    assert.equal((await box.isolation.capabilities()).available, false);
    await assert.rejects(box.isolation.create({ workspace: { path: at } }), /503.*NOT_SUPPORTED/);
  },
  async row31({ box }) {
    assert.ok((await box.getMetrics()).cpuCount > 0);
  },
};

for (const place of places) {
  const [sandboxId, owner, dir, shell] = place.split(":");
  const box = await Sandbox.connect({ sandboxId, connectionConfig: new ConnectionConfig({ useServerProxy: way === "proxied" }) });
  for (const [name, row] of Object.entries(rows)) {
    try {
      await row({ box, owner, at: `${dir}/js-${way}`, shell: shell === "yes" });
    } catch (e) {
      throw new Error(`${name} at ${place}`, { cause: e });
    }
  }
  await box.close();
}
console.log("js", way, "rows ok");
