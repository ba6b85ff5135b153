// Mounts volumes by the published JavaScript SDK, unmodified: `volumes.mjs MODULE IMAGE DIRECTORY CLAIM`. DIRECTORY is one of the node that may be
// mounted, with a file "in" and a directory "sub". CLAIM begins the names of volumes of the engine that do not exist yet: CLAIM-ends goes with its
// sandbox, CLAIM-stays is left behind. Anything unexpected is an assertion error.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [module, image, directory, claim] = process.argv.slice(2);
const { Sandbox, ConnectionConfig } = await import(pathToFileURL(module).href);
const create = (volumes) =>
  Sandbox.create({ connectionConfig: new ConnectionConfig(), image, timeoutSeconds: 300, resource: { cpu: "500m", memory: "128Mi" }, volumes });
const says = async (box, command, want) => {
  const run = await box.commands.run(command);
  assert.equal(run.logs.stdout.map((m) => m.text).join(""), want, command);
};
const refused = (volume, code) =>
  assert.rejects(create([volume]), (e) => {
    assert.deepEqual([e.statusCode, e.error?.code], [400, code]);
    return true;
  });

const ends = { claimName: `${claim}-ends`, deleteOnSandboxTermination: true };
let box = await create([
  { name: "whole", mountPath: "/host", host: { path: directory } },
  { name: "fixed", mountPath: "/fixed", host: { path: directory }, readOnly: true },
  { name: "part", mountPath: "/part", host: { path: directory }, subPath: "sub" },
  { name: "claim", mountPath: "/claim", pvc: ends },
  { name: "claimed", mountPath: "/claimed", pvc: ends, subPath: "a/b" },
  { name: "stays", mountPath: "/stays", pvc: { claimName: `${claim}-stays` } },
]);
await says(box, "cat /host/in", "from the node");
await says(box, "echo out > /host/out; cat /fixed/out", "out\n");
await says(box, "echo x > /fixed/x 2>/dev/null || echo read-only", "read-only\n");
await says(box, "echo part > /part/x; cat /host/sub/x", "part\n");
await says(box, "echo claimed > /claimed/x; cat /claim/a/b/x", "claimed\n");
await says(box, "echo kept > /stays/x; cat /stays/x", "kept\n");
await box.kill();
await box.close();

box = await create([
  { name: "stays", mountPath: "/stays", readOnly: true, pvc: { claimName: `${claim}-stays`, createIfNotExists: false } },
  { name: "anew", mountPath: "/anew", pvc: ends },
]);
await says(box, "cat /stays/x", "kept\n");
await says(box, "echo x > /stays/x 2>/dev/null || echo read-only", "read-only\n");
await says(box, "ls /anew | wc -l", "0\n");
await box.kill();
await box.close();

await refused({ name: "v", mountPath: "/v", host: { path: "/etc" } }, "VOLUME::HOST_PATH_NOT_ALLOWED");
await refused({ name: "v", mountPath: "/v", pvc: { claimName: `${claim}-none`, createIfNotExists: false } }, "VOLUME::PVC_NOT_FOUND");
console.log("js volumes ok");
