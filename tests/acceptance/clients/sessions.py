"""Drives shell sessions by the published Python SDK, unmodified: `sessions.py async|sync SANDBOX [use_server_proxy]`.

The sandbox runs already. Anything unexpected is an assertion error.
"""
import asyncio
import inspect
import sys
from datetime import timedelta

from opensandbox import Sandbox, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxApiException

KIND, SANDBOX = sys.argv[1:3]


async def done(value):
    """Waits for what the async SDK returns; what the sync one returns is there already."""
    return await value if inspect.isawaitable(value) else value


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def stdout(run):
    return "".join(m.text for m in run.logs.stdout)


async def main():
    cls, config = (SandboxSync, ConnectionConfigSync) if KIND == "sync" else (Sandbox, ConnectionConfig)
    box = await done(cls.connect(SANDBOX, connection_config=config(use_server_proxy="use_server_proxy" in sys.argv[3:])))
    commands = box.commands
    await done(commands.set_env("FOR_SESSIONS", "it's set"))
    session = await done(commands.create_session())

    async def run(text, **options):
        return await done(commands.run_in_session(session, text, **options))

    same(stdout(await run("export A='1 2'; cd /tmp; echo out; echo err >&2")), "out\nerr\n")
    last = await run("printf '%s|%s|%s' \"$A\" \"$PWD\" \"$FOR_SESSIONS\"")
    same((stdout(last), last.exit_code, last.id), ("1 2|/tmp|it's set", 0, session))
    same(stdout(await run("pwd", working_directory="/")), "/\n")
    same(stdout(await run("pwd")), "/\n")
    failed = await run("exit 3")
    same((failed.exit_code, failed.error.name, failed.complete), (3, "CommandExecError", None))
    late = await run("sleep 60", timeout=timedelta(milliseconds=300))
    same((late.error.name, late.exit_code, late.complete), ("TimeoutError", None, None))
    same(stdout(await run("echo $A")), "1 2\n")
    elsewhere = await done(commands.create_session(working_directory="/tmp/made/by/sdk"))
    same(stdout(await done(commands.run_in_session(elsewhere, "pwd; echo $A"))), "/tmp/made/by/sdk\n\n")
    for one in (session, elsewhere):
        await done(commands.delete_session(one))
    await refused(lambda: commands.delete_session(session))
    await refused(lambda: commands.run_in_session(session, "true"))
    await done(box.close())
    print(KIND, "sessions ok")


async def refused(call):
    try:
        await done(call())
    except SandboxApiException as e:
        assert e.status_code in (404, 500), e
        return
    raise AssertionError("a deleted session still answers")


asyncio.run(main())
