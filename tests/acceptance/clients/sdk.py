"""Drives the published Python SDK, unmodified, from create to kill: `sdk.py async|sync IMAGE [use_server_proxy]`.

The server is named by OPEN_SANDBOX_DOMAIN and OPEN_SANDBOX_API_KEY. Anything unexpected is an assertion error.
"""
import asyncio
import inspect
import io
import sys
import time
import urllib.error
import urllib.request
from datetime import timedelta

from opensandbox import Sandbox, SandboxManager, SandboxManagerSync, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.execd import RunCommandOpts
from opensandbox.models.filesystem import ContentReplaceEntry, DirectoryListEntry, MoveEntry, SearchEntry, SetPermissionEntry, WriteEntry
from opensandbox.models.sandboxes import SandboxFilter


def config():
    """How to reach the server; each object has its own, because closing it closes the connections."""
    cls = ConnectionConfigSync if sys.argv[1] == "sync" else ConnectionConfig
    return cls(use_server_proxy="use_server_proxy" in sys.argv[3:])


async def done(value):
    """Waits for what the async SDK returns; what the sync one returns is there already."""
    return await value if inspect.isawaitable(value) else value


async def until(what, condition):
    for _ in range(300):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("never: " + what)


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


async def commands(box):
    run = await done(box.commands.run("echo out; echo err >&2; exit 3"))
    same((run.logs.stdout[0].text, run.logs.stderr[0].text, run.exit_code, run.error.name), ("out\n", "err\n", 3, "CommandExecError"))
    run = await done(box.commands.run("printf 'a\\n\\nb'"))
    same(("".join(m.text for m in run.logs.stdout), run.exit_code), ("a\n\nb", 0))
    assert run.complete is not None
    run = await done(box.commands.run(["printf", "%s", "$HOME"]))
    same(run.text, "$HOME")
    run = await done(box.commands.run("pwd; echo $X", opts=RunCommandOpts(working_directory="/tmp", envs={"X": "y"})))
    same(run.text, "/tmp\ny")
    run = await done(box.commands.run("sleep 60", opts=RunCommandOpts(timeout=timedelta(milliseconds=200))))
    same(run.exit_code, -1)


async def background(box):
    run = await done(box.commands.run("echo started; sleep 60", opts=RunCommandOpts(background=True)))
    same(run.exit_code, None)

    async def wrote():
        return (await done(box.commands.get_background_command_logs(run.id))).content == "started\n"

    await until("the background command writes", wrote)
    assert (await done(box.commands.get_command_status(run.id))).running
    await done(box.commands.interrupt(run.id))
    status = await done(box.commands.get_command_status(run.id))
    same((status.running, status.exit_code), (False, -1))


async def environment(box):
    for value in ["plain", "it's \"quoted\"", "two\nlines", "$HOME and `x`"]:
        await done(box.commands.set_env("FROM_SDK", value))
        run = await done(box.commands.run("printf '%s' \"$FROM_SDK\""))
        same("".join(m.text for m in run.logs.stdout), value)


async def files(box):
    fs = box.files
    await done(fs.create_directories([WriteEntry(path="/tmp/sdk/sub", mode=755)]))
    await done(fs.write_file("/tmp/sdk/a.txt", "hello world\nline two\n", mode=644))
    await done(fs.write_files([WriteEntry(path="/tmp/sdk/sub/b.bin", data=bytes(range(256)) * 1000), WriteEntry(path="/tmp/sdk/c.txt", data=io.BytesIO(b"streamed"))]))
    same(await done(fs.read_file("/tmp/sdk/a.txt")), "hello world\nline two\n")
    same(await done(fs.read_file("/tmp/sdk/a.txt", offset=2, limit=1)), "line two")
    same(await done(fs.read_bytes("/tmp/sdk/a.txt", range_header="bytes=0-4")), b"hello")
    same(await done(fs.read_bytes("/tmp/sdk/sub/b.bin")), bytes(range(256)) * 1000)
    stream = await done(fs.read_bytes_stream("/tmp/sdk/c.txt"))
    same(b"".join([c async for c in stream] if hasattr(stream, "__aiter__") else list(stream)), b"streamed")
    info = (await done(fs.get_file_info(["/tmp/sdk/a.txt"])))["/tmp/sdk/a.txt"]
    same((info.mode, info.size, info.owner, info.entry_type), (644, 21, "root", "file"))
    await done(fs.set_permissions([SetPermissionEntry(path="/tmp/sdk/a.txt", mode=600, owner="nobody", group="nogroup")]))
    info = (await done(fs.get_file_info(["/tmp/sdk/a.txt"])))["/tmp/sdk/a.txt"]
    same((info.mode, info.owner, info.group), (600, "nobody", "nogroup"))
    same([e.path for e in await done(fs.search(SearchEntry(path="/tmp/sdk", pattern="*.txt")))], ["/tmp/sdk/a.txt", "/tmp/sdk/c.txt"])
    same([e.path for e in await done(fs.list_directory(DirectoryListEntry(path="/tmp/sdk", depth=2)))], ["/tmp/sdk/a.txt", "/tmp/sdk/c.txt", "/tmp/sdk/sub", "/tmp/sdk/sub/b.bin"])
    replaced = await done(fs.replace_contents_detailed([ContentReplaceEntry(path="/tmp/sdk/a.txt", old_content="l", new_content="L")]))
    same(replaced[0].replaced_count, 4)
    await done(fs.move_files([MoveEntry(src="/tmp/sdk/a.txt", dest="/tmp/sdk/new/a.txt")]))
    same((await done(fs.read_file("/tmp/sdk/new/a.txt")))[:5], "heLLo")
    await done(fs.delete_files(["/tmp/sdk/c.txt"]))
    await done(fs.delete_directories(["/tmp/sdk"]))
    try:
        await done(fs.read_file("/tmp/sdk/new/a.txt"))
    except SandboxApiException as e:
        same((e.status_code, e.error.code), (404, "FILE_NOT_FOUND"))
    else:
        raise AssertionError("a deleted file was read")


async def ports(box):
    await done(box.commands.run("mkdir -p /tmp/www; echo served > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; httpd -p 3000 -h /tmp/www"))
    for port in (8080, 3000):
        endpoint = await done(box.get_endpoint(port))
        try:
            with urllib.request.urlopen(f"http://{endpoint.endpoint}/", timeout=10) as answer:
                same(answer.read(), b"served\n")
        except urllib.error.HTTPError as e:
            raise AssertionError(f"port {port} at {endpoint.endpoint}: {e.code} {e.headers} {e.read()}") from e


async def lifecycle(cls, manager_cls, box, image):
    info = await done(box.get_info())
    same((info.status.state, info.image.image, info.metadata["flow"]), ("Running", image, "sdk"))
    await done(box.patch_metadata({"flow": None, "step": "two"}))
    same((await done(box.get_info())).metadata["step"], "two")
    renewed = await done(box.renew(timedelta(hours=1)))
    assert renewed.expires_at.timestamp() > time.time() + 3500
    await done(box.pause())
    same((await done(box.get_info())).status.state, "Paused")
    manager = await done(manager_cls.create(config()))
    found = await done(manager.list_sandbox_infos(SandboxFilter(states=["Paused"], metadata={"step": "two"})))
    same([i.id for i in found.sandbox_infos], [box.id])
    again = await done(cls.resume(box.id, connection_config=config()))
    same((await done(again.commands.run("echo back"))).text, "back")
    metrics = await done(again.get_metrics())
    assert metrics.cpu_count > 0 and metrics.memory_total_in_mib > 0
    assert await done(again.is_healthy())
    connected = await done(cls.connect(box.id, connection_config=config()))
    await done(connected.kill())
    try:
        await done(manager.get_sandbox_info(box.id))
    except SandboxApiException as e:
        same((e.status_code, e.error.code), (404, "DOCKER::SANDBOX_NOT_FOUND"))
        assert e.request_id
    else:
        raise AssertionError("a killed sandbox is still there")
    await done(manager.close())


async def main(kind, image):
    cls, manager_cls = (Sandbox, SandboxManager) if kind == "async" else (SandboxSync, SandboxManagerSync)
    box = await done(cls.create(image, connection_config=config(), timeout=timedelta(minutes=5), env={"FROM": "create"}, metadata={"flow": "sdk"}, resource={"cpu": "500m", "memory": "128Mi"}))
    same((await done(box.commands.run("echo $FROM"))).text, "create")
    for part in (commands, background, environment, files, ports):
        await part(box)
        print(kind, part.__name__, "ok", flush=True)
    await lifecycle(cls, manager_cls, box, image)
    print(kind, "lifecycle ok", flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
