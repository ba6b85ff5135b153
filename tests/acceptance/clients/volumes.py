"""Mounts volumes by the published Python SDK, unmodified: `volumes.py async|sync IMAGE DIRECTORY CLAIM`.

DIRECTORY is one of the node that may be mounted, with a file "in" and a directory "sub". CLAIM begins the names of volumes of the engine that
do not exist yet: CLAIM-ends goes with its sandbox, CLAIM-stays is left behind. Anything unexpected is an assertion error.
"""
import asyncio
import inspect
import sys

from opensandbox import Sandbox, SandboxSync
from opensandbox.config import ConnectionConfig, ConnectionConfigSync
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.sandboxes import PVC, Host, Volume

KIND, IMAGE, DIRECTORY, CLAIM = sys.argv[1:]
LIMITS = {"cpu": "500m", "memory": "128Mi"}


async def done(value):
    """Waits for what the async SDK returns; what the sync one returns is there already."""
    return await value if inspect.isawaitable(value) else value


async def create(volumes):
    cls, config = (SandboxSync, ConnectionConfigSync) if KIND == "sync" else (Sandbox, ConnectionConfig)
    return await done(cls.create(IMAGE, resource=LIMITS, volumes=volumes, connection_config=config()))


async def says(box, command, want):
    """The SDK leaves the last newline out."""
    run = await done(box.commands.run(command))
    assert run.text == want, f"{command}: got {run.text!r}, want {want!r}; {run.error}"


async def refused(volume, code):
    try:
        await create([volume])
    except SandboxApiException as e:
        assert (e.status_code, e.error.code) == (400, code), f"refused with {e.status_code} {e.error.code}, want 400 {code}"
        return
    raise AssertionError(f"not refused: {volume}")


async def main():
    ends = PVC(claim_name=CLAIM + "-ends", delete_on_sandbox_termination=True)
    box = await create([
        Volume(name="whole", mount_path="/host", host=Host(path=DIRECTORY)),
        Volume(name="fixed", mount_path="/fixed", host=Host(path=DIRECTORY), read_only=True),
        Volume(name="part", mount_path="/part", host=Host(path=DIRECTORY), sub_path="sub"),
        Volume(name="claim", mount_path="/claim", pvc=ends),
        Volume(name="claimed", mount_path="/claimed", pvc=ends, sub_path="a/b"),
        Volume(name="stays", mount_path="/stays", pvc=PVC(claim_name=CLAIM + "-stays")),
    ])
    await says(box, "cat /host/in", "from the node")
    await says(box, "echo out > /host/out; cat /fixed/out", "out")
    await says(box, "echo x > /fixed/x 2>/dev/null || echo read-only", "read-only")
    await says(box, "echo part > /part/x; cat /host/sub/x", "part")
    await says(box, "echo claimed > /claimed/x; cat /claim/a/b/x", "claimed")
    await says(box, "echo kept > /stays/x; cat /stays/x", "kept")
    await done(box.kill())
    await done(box.close())

    box = await create([
        Volume(name="stays", mount_path="/stays", read_only=True, pvc=PVC(claim_name=CLAIM + "-stays", create_if_not_exists=False)),
        Volume(name="anew", mount_path="/anew", pvc=ends),
    ])
    await says(box, "cat /stays/x", "kept")
    await says(box, "echo x > /stays/x 2>/dev/null || echo read-only", "read-only")
    await says(box, "ls /anew | wc -l", "0")
    await done(box.kill())
    await done(box.close())

    await refused(Volume(name="v", mount_path="/v", host=Host(path="/etc")), "VOLUME::HOST_PATH_NOT_ALLOWED")
    await refused(Volume(name="v", mount_path="/v", pvc=PVC(claim_name=CLAIM + "-none", create_if_not_exists=False)), "VOLUME::PVC_NOT_FOUND")
    print(KIND, "volumes ok")


asyncio.run(main())
