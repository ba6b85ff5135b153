// Drives shell sessions by the published JavaScript SDK, unmodified: `sessions.mjs MODULE SANDBOX [use_server_proxy]`. The sandbox runs already. Anything
// unexpected is an assertion error.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [module, sandboxId, way] = process.argv.slice(2);
const { Sandbox, ConnectionConfig } = await import(pathToFileURL(module).href);
const box = await Sandbox.connect({ sandboxId, connectionConfig: new ConnectionConfig({ useServerProxy: way === "use_server_proxy" }) });
const text = (run) => run.logs.stdout.map((m) => m.text).join("");

const session = await box.commands.createSession();
const seen = [];
let run = await box.commands.runInSession(session, "export A='1 2'; cd /tmp; echo out; echo err >&2", undefined, { onStdout: (m) => seen.push(m.text) });
assert.equal(text(run), "out\nerr\n");
assert.deepEqual(seen, ["out\n", "err\n"]);
run = await box.commands.runInSession(session, 'printf "%s|%s" "$A" "$PWD"');
assert.equal(text(run), "1 2|/tmp");
assert.equal(run.exitCode, 0);
run = await box.commands.runInSession(session, "pwd; exit 3", { workingDirectory: "/" });
assert.equal(text(run), "/\n");
assert.equal(run.exitCode, 3);
run = await box.commands.runInSession(session, "sleep 60", { timeoutSeconds: 1 });
assert.equal(run.error.name, "TimeoutError");
const elsewhere = await box.commands.createSession({ workingDirectory: "/tmp/made/by/js" });
assert.equal(text(await box.commands.runInSession(elsewhere, "pwd; echo $A")), "/tmp/made/by/js\n\n");
await box.commands.deleteSession(session);
await box.commands.deleteSession(elsewhere);
await assert.rejects(box.commands.deleteSession(session));
await assert.rejects(box.commands.runInSession(session, "true"));
await box.close();
console.log("js sessions ok");
