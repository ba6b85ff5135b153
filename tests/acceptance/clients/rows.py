"""Drives the daemon of sandboxes that run already by the published Python SDK, unmodified: `rows.py async|sync direct|proxied PLACE…`.

A place is ID:OWNER:DIRECTORY:SHELL: a sandbox, how its user is shown, a directory that the user may write to, and "yes" or "no". Each part is a row of
the acceptance list. Anything unexpected is an assertion error.
"""
import asyncio
import inspect
import io
import sys
from datetime import timedelta

from opensandbox import Sandbox, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.execd import ExecutionHandlers, RunCommandOpts
from opensandbox.models.execd_sync import ExecutionHandlersSync
from opensandbox.models.filesystem import ContentReplaceEntry, DirectoryListEntry, MoveEntry, SearchEntry, SetPermissionEntry, WriteEntry
from opensandbox.models.isolated import CreateIsolatedSessionRequest, IsolatedWorkspaceSpec

KIND, WAY = sys.argv[1:3]
PROGRAM = "/app"


async def done(value):
    """Waits for what the async SDK returns; what the sync one returns is there already."""
    return await value if inspect.isawaitable(value) else value


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def text(messages):
    return "".join(m.text for m in messages)


async def refused(call, status):
    try:
        await done(call())
    except SandboxApiException as e:
        same(e.status_code, status)
        return e
    raise AssertionError("not refused")


class Place:
    def __init__(self, box, owner, directory, shell):
        self.box, self.owner, self.dir, self.shell = box, owner, f"{directory}/py-{KIND}-{WAY}", shell == "yes"

    async def run(self, command, **options):
        return await done(self.box.commands.run(command, opts=RunCommandOpts(**options)))

    async def row20(self):
        assert await done(self.box.is_healthy())

    async def row21(self):
        command = "echo out; echo err >&2; exit 3" if self.shell else [PROGRAM, "tell", "FROM", "NOWHERE"]
        seen = []
        if KIND == "async":
            async def hear(event):
                seen.append(type(event).__name__)

            handlers = ExecutionHandlers(on_init=hear, on_stdout=hear, on_stderr=hear, on_error=hear, on_execution_complete=hear)
        else:
            def hear(event):
                seen.append(type(event).__name__)

            handlers = ExecutionHandlersSync(on_init=hear, on_stdout=hear, on_stderr=hear, on_error=hear, on_execution_complete=hear)
        run = await done(self.box.commands.run(command, handlers=handlers))
        same((run.exit_code, run.error.name, run.error.value, run.error.traceback, run.complete), (3, "CommandExecError", "3", ["exit status 3"], None))
        same(text(run.logs.stderr), "err\n" if self.shell else "NOWHERE is missing\n")
        assert text(run.logs.stdout).endswith("out\n" if self.shell else "FROM=create\n"), run
        same((seen[0], seen[-1], seen.count("ExecutionError"), seen.count("ExecutionComplete")), ("ExecutionInit", "ExecutionError", 1, 0))

    async def row22(self):
        if self.shell:
            run = await self.run("printf 'a\\r\\n\\nb'; pwd; echo $FROM-$X", working_directory="/tmp", envs={"X": "y"}, timeout=timedelta(minutes=1))
            same((text(run.logs.stdout), run.exit_code), ("a\r\n\nb/tmp\ncreate-y\n", 0))
            same(text((await self.run(["printf", "%s|", "$HOME", "", "a b"])).logs.stdout), "$HOME||a b|")
            late = await self.run("sleep 300", timeout=timedelta(milliseconds=200))
        else:
            run = await self.run([PROGRAM, "tell", "FROM"], working_directory="/dev/shm", envs={"FROM": "request"}, timeout=timedelta(minutes=1))
            same((text(run.logs.stdout).split()[2:], run.exit_code), (["/dev/shm", "FROM=request"], 0))
            run = await self.run("true")
            assert run.exit_code is None and "no shell" in run.error.value, run
            late = await self.run([PROGRAM, "hold"], timeout=timedelta(milliseconds=200))
        same((late.exit_code, late.error.name), (-1, "CommandExecError"))
        await refused(lambda: self.run([PROGRAM], working_directory="/no/such"), 400)
        run = await self.run(["id"] if self.shell else [PROGRAM, "tell"], uid=4321, gid=5432)
        if self.owner in ("root", "0"):
            assert "4321" in text(run.logs.stdout) and "5432" in text(run.logs.stdout), run
        else:
            assert run.exit_code is None and "SETUID" in run.error.value, run

    async def row23(self):
        command, prints = ("echo one; exec sleep 3600", "one\n") if self.shell else ([PROGRAM, "hold"], "static-app holds\n")
        run = await self.run(command, background=True)
        assert run.id and run.complete is not None and run.exit_code is None, run
        commands = self.box.commands
        for _ in range(600):
            logs = await done(commands.get_background_command_logs(run.id))
            if logs.content == prints:
                break
            await asyncio.sleep(0.1)
        same((logs.content, logs.cursor), (prints, len(prints)))
        same((await done(commands.get_background_command_logs(run.id, cursor=2))).content, prints[2:])
        status = await done(commands.get_command_status(run.id))
        same((status.id, status.running, status.exit_code, status.finished_at), (run.id, True, None, None))
        await done(commands.interrupt(run.id))
        status = await done(commands.get_command_status(run.id))
        same((status.running, status.exit_code), (False, -1 if self.shell else 0))
        await refused(lambda: commands.get_command_status("none"), 404)

    async def row24(self):
        if not self.shell:
            error = await refused(self.box.commands.create_session, 500)
            assert "no shell" in error.error.message, error
            return
        session = await done(self.box.commands.create_session())
        run = await done(self.box.commands.run_in_session(session, "export A=1; cd /tmp; echo $FROM"))
        same((text(run.logs.stdout), run.exit_code), ("create\n", 0))
        same(text((await done(self.box.commands.run_in_session(session, "echo $A $PWD"))).logs.stdout), "1 /tmp\n")
        await done(self.box.commands.delete_session(session))

    async def row25(self):
        fs, at = self.box.files, self.dir
        await done(fs.create_directories([WriteEntry(path=f"{at}/sub", mode=750)]))
        await done(fs.write_files([
            WriteEntry(path=f"{at}/a b.txt", data="hällo\nline two\n", mode=644), WriteEntry(path=f"{at}/sub/b.bin", data=bytes(range(256)) * 1000),
            WriteEntry(path=f"{at}/c.txt", data=io.BytesIO(b"streamed"), mode=600), WriteEntry(path=f"{at}/empty", data=""),
        ]))
        info = await done(fs.get_file_info([f"{at}/a b.txt", f"{at}/sub", f"{at}/c.txt"]))
        same([(info[p].mode, info[p].owner, info[p].entry_type) for p in (f"{at}/a b.txt", f"{at}/sub", f"{at}/c.txt")],
             [(644, self.owner, "file"), (750, self.owner, "directory"), (600, self.owner, "file")])
        await done(fs.set_permissions([SetPermissionEntry(path=f"{at}/c.txt", mode=640)]))
        same((await done(fs.get_file_info([f"{at}/c.txt"])))[f"{at}/c.txt"].mode, 640)

    async def row26(self):
        """Reads what row 25 has written, and takes it away."""
        fs, at = self.box.files, self.dir
        same(await done(fs.read_file(f"{at}/a b.txt")), "hällo\nline two\n")
        same(await done(fs.read_file(f"{at}/a b.txt", offset=2, limit=1)), "line two")
        same(await done(fs.read_bytes(f"{at}/a b.txt", range_header="bytes=0-0")), b"h")
        same(await done(fs.read_bytes(f"{at}/sub/b.bin")), bytes(range(256)) * 1000)
        same(await done(fs.read_bytes(f"{at}/empty")), b"")
        stream = await done(fs.read_bytes_stream(f"{at}/c.txt"))
        same(b"".join([c async for c in stream] if hasattr(stream, "__aiter__") else list(stream)), b"streamed")
        same([e.path for e in await done(fs.search(SearchEntry(path=at, pattern="*.txt")))], [f"{at}/a b.txt", f"{at}/c.txt"])
        same(await done(fs.search(SearchEntry(path=at, pattern="nothing*"))), [])
        same([e.path for e in await done(fs.list_directory(DirectoryListEntry(path=at, depth=2)))],
             [f"{at}/a b.txt", f"{at}/c.txt", f"{at}/empty", f"{at}/sub", f"{at}/sub/b.bin"])
        replaced = await done(fs.replace_contents_detailed([ContentReplaceEntry(path=f"{at}/a b.txt", old_content="l", new_content="L")]))
        same([(r.path, r.replaced_count) for r in replaced], [(f"{at}/a b.txt", 3)])
        await done(fs.replace_contents([ContentReplaceEntry(path=f"{at}/a b.txt", old_content="L", new_content="l")]))
        await done(fs.move_files([MoveEntry(src=f"{at}/a b.txt", dest=f"{at}/new/a")]))
        same(await done(fs.read_file(f"{at}/new/a")), "hällo\nline two\n")
        await done(fs.delete_files([f"{at}/new/a", f"{at}/none"]))
        await refused(lambda: fs.read_file(f"{at}/new/a"), 404)
        await done(fs.delete_directories([at]))
        await refused(lambda: fs.list_directory(DirectoryListEntry(path=at)), 404)

    async def row27(self):
        files, private = self.box.files, f"{self.dir}/private"
        await done(files.create_directories([WriteEntry(path=self.dir, mode=777)]))
        await done(files.write_file(private, "private", mode=600))
        if self.owner in ("root", "0"):
            user, other = self.box.files_with_identity(54321, 43210), None
            await refused(lambda: user.read_file(private), 403)
        else:
            own = (65534, 65534) if self.owner == "nobody" else (int(self.owner), 0)
            user, other = self.box.files_with_identity(*own), self.box.files_with_identity(0, 0)
            same(await done(user.read_file(private)), "private")
            await refused(lambda: other.read_file(private), 501)
        await done(user.write_files([WriteEntry(path=f"{self.dir}/mine/a", data="mine\n", mode=640)]))
        same(await done(user.read_file(f"{self.dir}/mine/a", offset=1, limit=1)), "mine")
        info = (await done(files.get_file_info([f"{self.dir}/mine/a"])))[f"{self.dir}/mine/a"]
        same((info.owner, info.mode), (self.owner if other else "54321", 640))
        same([e.path for e in await done(user.search(SearchEntry(path=f"{self.dir}/mine", pattern="*")))], [f"{self.dir}/mine/a"])
        await done(user.delete_directories([f"{self.dir}/mine"]))
        await done(files.delete_directories([self.dir]))

    async def row28(self):
        capabilities = await done(self.box.isolation.capabilities())
        assert not capabilities.available and capabilities.message, capabilities
        same(await done(self.box.isolation.list()), [])
        request = CreateIsolatedSessionRequest(workspace=IsolatedWorkspaceSpec(path=self.dir))
        error = await refused(lambda: self.box.isolation.create(request), 503)
        same(error.error.code, "NOT_SUPPORTED")

    async def row30(self):
        if not self.shell:
            return  # set_env is a command for a shell
        for value in ["plain", "it's \"quoted\"", "two\nlines", "$HOME and `x`"]:
            name = f"SDK_{KIND}_{WAY}"
            await done(self.box.commands.set_env(name, value))
            same(text((await self.run(f"printf '%s' \"${name}\"")).logs.stdout), value)

    async def row31(self):
        metrics = await done(self.box.get_metrics())
        assert metrics.cpu_count > 0 and metrics.memory_total_in_mib > 0 and metrics.timestamp > 0, metrics


async def main():
    cls, config = (SandboxSync, ConnectionConfigSync) if KIND == "sync" else (Sandbox, ConnectionConfig)
    for place in sys.argv[3:]:
        sandbox, *rest = place.split(":")
        box = await done(cls.connect(sandbox, connection_config=config(use_server_proxy=WAY == "proxied")))
        here = Place(box, *rest)
        for row in (here.row20, here.row21, here.row22, here.row23, here.row24, here.row25, here.row26, here.row27, here.row28, here.row30, here.row31):
            try:
                await row()
            except Exception as e:
                raise AssertionError(f"{row.__name__} at {place}") from e
        await done(box.close())
    print(KIND, WAY, "rows ok")


asyncio.run(main())
