"""Drives the published code interpreter SDK, unmodified: `interpreter.py async|sync IMAGE [use_server_proxy]`.

The server is named by OPEN_SANDBOX_DOMAIN and OPEN_SANDBOX_API_KEY. Anything unexpected is an assertion error.
"""
import asyncio
import inspect
import sys
import threading
import time
from datetime import timedelta

from code_interpreter import CodeInterpreter, CodeInterpreterSync
from code_interpreter.models.code import CodeContext
from code_interpreter.models.code_sync import CodeContextSync
from opensandbox import Sandbox, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxApiException, SandboxReadyTimeoutException
from opensandbox.models.execd import ExecutionHandlers
from opensandbox.models.execd_sync import ExecutionHandlersSync

ENTRYPOINT = ["/opt/code-interpreter/code-interpreter.sh"]


async def done(value):
    """Waits for what the async SDK returns; what the sync one returns is there already."""
    return await value if inspect.isawaitable(value) else value


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


async def ready(interpreter_cls, box):
    """The SDK gives Jupyter 30 s to start; a busy machine may need more."""
    end = time.time() + 180
    while True:
        try:
            return await done(interpreter_cls.create(box))
        except SandboxReadyTimeoutException:
            assert time.time() < end, "Jupyter does not start"


def printed(messages):
    return "".join(m.text for m in messages)


async def results(codes):
    run = await done(codes.run("print('out'); import sys; print('err', file=sys.stderr); 1 + 1", language="python"))
    same((printed(run.logs.stdout), printed(run.logs.stderr), [r.text for r in run.result], run.error), ("out\n", "err\n", ["2"], None))
    assert run.id and run.complete is not None and run.execution_count == 1, run
    run = await done(codes.run("1 / 0", language="python"))
    same((run.error.name, run.error.value), ("ZeroDivisionError", "division by zero"))
    assert any("ZeroDivisionError" in line for line in run.error.traceback), run.error
    run = await done(codes.run("print('a\\u2028b\\x85c')", language="python"))
    same(printed(run.logs.stdout), "a\u2028b\x85c\n")
    run = await done(codes.run("echo $((40 + 2)); cd /tmp", language="bash"))
    same(printed(run.logs.stdout).strip(), "42")


async def contexts(codes, context_cls):
    one = await done(codes.create_context("python"))
    two = await done(codes.create_context("python"))
    same((one.language, type(one), one.id != two.id), ("python", context_cls, True))
    await done(codes.run("x = 41", context=one))
    same([r.text for r in (await done(codes.run("x + 1", context=one))).result], ["42"])
    same((await done(codes.run("x + 1", context=two))).error.name, "NameError")
    same((await done(codes.get_context(one.id))).id, one.id)
    listed = [c.id for c in await done(codes.list_contexts("python"))]
    assert one.id in listed and two.id in listed, listed
    await done(codes.delete_context(one.id))
    try:
        await done(codes.get_context(one.id))
    except SandboxApiException as e:
        same((e.status_code, e.error.code), (404, "CONTEXT_NOT_FOUND"))
    else:
        raise AssertionError("a deleted context was found")
    try:
        await done(codes.run("1", context=one))
    except SandboxApiException as e:
        same(e.status_code, 500)
    else:
        raise AssertionError("code ran in a deleted context")
    await done(codes.delete_contexts("python"))
    same(await done(codes.list_contexts("python")), [])


async def side_by_side(kind, codes):
    """A slow context keeps no other one waiting, is busy itself, and can be interrupted."""
    slow = await done(codes.create_context("python"))
    quick = await done(codes.create_context("python"))
    sleep = "import time; print('started', flush=True); time.sleep(600)"
    started = threading.Event()
    end = time.time() + 180

    if kind == "async":
        async def heard(_):
            started.set()

        task = asyncio.create_task(codes.run(sleep, context=slow, handlers=ExecutionHandlers(on_stdout=heard)))
    else:
        handlers = ExecutionHandlersSync(on_stdout=lambda _: started.set())
        task = asyncio.create_task(asyncio.to_thread(codes.run, sleep, context=slow, handlers=handlers))
    while not started.is_set():
        assert time.time() < end and not task.done(), "the slow context does not start"
        await asyncio.sleep(0.05)
    busy = await done(codes.run("1 + 1", context=slow))
    same((busy.error.name, busy.error.value), ("RUNTIME_ERROR", "error running codes session is busy"))
    same([r.text for r in (await done(codes.run("1 + 1", context=quick))).result], ["2"])
    while not task.done():
        await done(codes.interrupt(slow.id))
        await asyncio.wait([task], timeout=1)
        assert time.time() < end, "the interrupt has no effect"
    same((await task).error.name, "KeyboardInterrupt")


async def main(kind, image, proxied):
    if kind == "async":
        cls, interpreter_cls, context_cls, config = Sandbox, CodeInterpreter, CodeContext, ConnectionConfig
    else:
        cls, interpreter_cls, context_cls, config = SandboxSync, CodeInterpreterSync, CodeContextSync, ConnectionConfigSync
    box = await done(cls.create(image, entrypoint=ENTRYPOINT, connection_config=config(use_server_proxy=proxied), timeout=timedelta(minutes=10),
                                resource={"cpu": "2", "memory": "1Gi"}))
    interpreter = await ready(interpreter_cls, box)
    assert interpreter.id == box.id
    await results(interpreter.codes)
    print(kind, "results ok", flush=True)
    await contexts(interpreter.codes, context_cls)
    print(kind, "contexts ok", flush=True)
    await side_by_side(kind, interpreter.codes)
    print(kind, "side by side ok", flush=True)
    await done(box.kill())


asyncio.run(main(sys.argv[1], sys.argv[2], "use_server_proxy" in sys.argv[3:]))
