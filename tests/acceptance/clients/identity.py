"""Reads and writes files as another user by the published Python SDK, unmodified: `identity.py async|sync IMAGE [use_server_proxy]`.

Anything unexpected is an assertion error.
"""
import asyncio
import inspect
import sys

from opensandbox import Sandbox, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.filesystem import DirectoryListEntry, MoveEntry, SearchEntry, WriteEntry

KIND, IMAGE = sys.argv[1:3]
PROXY = sys.argv[3:] == ["use_server_proxy"]
LIMITS = {"cpu": "500m", "memory": "128Mi"}
UID, GID = 54321, 43210


async def done(value):
    """Waits for what the async SDK returns; what the sync one returns is there already."""
    return await value if inspect.isawaitable(value) else value


async def refused(call):
    try:
        await done(call())
    except SandboxApiException as e:
        # Some calls of the SDK know no 403, and show the body as the text of the exception.
        assert e.status_code == 403, f"refused with {e.status_code} {e.error.code}"
        return
    raise AssertionError("not refused")


async def main():
    cls, config = (SandboxSync, ConnectionConfigSync) if KIND == "sync" else (Sandbox, ConnectionConfig)
    box = await done(cls.create(IMAGE, resource=LIMITS, connection_config=config(use_server_proxy=PROXY)))
    try:
        await done(box.files.write_file("/tmp/private", "of root", mode=600))
        mine = box.files_with_identity(UID, GID)
        await refused(lambda: mine.read_file("/tmp/private"))
        await refused(lambda: mine.write_file("/etc/new", "x"))
        await refused(lambda: mine.delete_files(["/tmp/private"]))
        await done(mine.create_directories([WriteEntry(path="/tmp/mine", mode=700)]))
        await done(mine.write_files([WriteEntry(path="/tmp/mine/a", data="line one\nline two\n", mode=600), WriteEntry(path="/tmp/mine/b", data=bytes(300000))]))
        assert await done(mine.read_file("/tmp/mine/a", offset=2, limit=1)) == "line two"
        assert await done(mine.read_bytes("/tmp/mine/b", range_header="bytes=299990-")) == bytes(10)
        await done(mine.move_files([MoveEntry(src="/tmp/mine/b", dest="/tmp/mine/c")]))
        assert [e.path for e in await done(mine.search(SearchEntry(path="/tmp/mine", pattern="*")))] == ["/tmp/mine/a", "/tmp/mine/c"]
        assert len(await done(mine.list_directory(DirectoryListEntry(path="/tmp/mine", depth=1)))) == 2
        info = (await done(box.files.get_file_info(["/tmp/mine/a"])))["/tmp/mine/a"]
        assert (info.owner, info.group, info.mode) == (str(UID), str(GID), 600), info
        await done(mine.delete_directories(["/tmp/mine"]))
        assert await done(box.files.read_file("/tmp/private")) == "of root"
    finally:
        await done(box.kill())
        await done(box.close())
    print(KIND, "identity ok")


asyncio.run(main())
