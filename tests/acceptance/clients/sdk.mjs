// Drives the published JavaScript SDK, unmodified, from create to kill: `sdk.mjs MODULE IMAGE [use_server_proxy]`. The server is named by OPEN_SANDBOX_DOMAIN
// and OPEN_SANDBOX_API_KEY. Anything unexpected is an assertion error.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [module, image, way] = process.argv.slice(2);
const { Sandbox, SandboxManager, ConnectionConfig } = await import(pathToFileURL(module).href);
const connectionConfig = new ConnectionConfig({ useServerProxy: way === "use_server_proxy" });
const text = (messages) => messages.map((m) => m.text).join("");

const box = await Sandbox.create({
  connectionConfig, image, timeoutSeconds: 300, env: { FROM: "create" }, metadata: { flow: "js" }, resource: { cpu: "500m", memory: "128Mi" },
});

const seen = [];
let run = await box.commands.run("echo $FROM; echo err >&2; exit 3", undefined, { onStdout: (m) => seen.push(m.text) });
assert.equal(text(run.logs.stdout), "create\n");
assert.equal(text(run.logs.stderr), "err\n");
assert.equal(run.exitCode, 3);
assert.equal(run.error.name, "CommandExecError");
assert.deepEqual(seen, ["create\n"]);
run = await box.commands.run("pwd", { workingDirectory: "/tmp" });
assert.equal(text(run.logs.stdout), "/tmp\n");
console.log("js commands ok");

run = await box.commands.run("echo started; sleep 60", { background: true });
let logs;
for (let i = 0; i < 300; i++) {
  logs = await box.commands.getBackgroundCommandLogs(run.id);
  if (logs.content === "started\n") break;
  await new Promise((r) => setTimeout(r, 100));
}
assert.equal(logs.content, "started\n");
assert.equal((await box.commands.getCommandStatus(run.id)).running, true);
await box.commands.interrupt(run.id);
assert.equal((await box.commands.getCommandStatus(run.id)).running, false);
console.log("js background ok");

await box.files.createDirectories([{ path: "/tmp/js/sub", mode: 755 }]);
async function* chunks() {
  for (let i = 0; i < 100; i++) yield new Uint8Array(10000).fill(i);
}
await box.files.writeFiles([
  { path: "/tmp/js/a.txt", data: "hello world", mode: 644 },
  { path: "/tmp/js/sub/b c.bin", data: chunks() },
]);
assert.equal(await box.files.readFile("/tmp/js/a.txt"), "hello world");
assert.equal((await box.files.readBytes("/tmp/js/sub/b c.bin")).length, 1000000);
const info = (await box.files.getFileInfo(["/tmp/js/a.txt"]))["/tmp/js/a.txt"];
assert.equal(info.mode, 644);
assert.deepEqual((await box.files.search({ path: "/tmp/js", pattern: "*.txt" })).map((f) => f.path), ["/tmp/js/a.txt"]);
await box.files.replaceContents([{ path: "/tmp/js/a.txt", oldContent: "world", newContent: "there" }]);
await box.files.moveFiles([{ src: "/tmp/js/a.txt", dest: "/tmp/js/c.txt" }]);
assert.equal(await box.files.readFile("/tmp/js/c.txt"), "hello there");
await box.files.deleteFiles(["/tmp/js/c.txt"]);
await box.files.deleteDirectories(["/tmp/js"]);
await assert.rejects(box.files.readFile("/tmp/js/c.txt"));
console.log("js files ok");

await box.commands.run("mkdir -p /tmp/www; echo served > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; httpd -p 3000 -h /tmp/www");
for (const port of [8080, 3000]) {
  const answer = await fetch(`${await box.getEndpointUrl(port)}/`);
  assert.equal(await answer.text(), "served\n");
}
console.log("js ports ok");

assert.equal((await box.getInfo()).status.state, "Running");
assert.ok((await box.getMetrics()).cpuCount > 0);
await box.renew(3600);
await box.pause();
const manager = SandboxManager.create({ connectionConfig });
const paused = await manager.listSandboxInfos({ states: ["Paused"], metadata: { flow: "js" } });
assert.deepEqual(paused.items.map((s) => s.id), [box.id]);
const resumed = await box.resume();
assert.equal(text((await resumed.commands.run("echo back")).logs.stdout), "back\n");
await resumed.kill();
await assert.rejects(manager.getSandboxInfo(box.id), (e) => e.statusCode === 404);
await manager.close();
await resumed.close();
await box.close();
console.log("js lifecycle ok");
