"""Whether someone else has changed a target."""

from __future__ import annotations

from confpy.candidates import DeliveredState, FileStamp
from confpy.config.resource import Resource
from confpy.errors import TargetError
from confpy.messages import Inspected
from confpy.system.disk import Disk
from confpy.target.look import Folders, differences, digest, look
from confpy.target.stamps import stamp


def inspect(targets: tuple[tuple[Resource, DeliveredState], ...], disk: Disk, root: str = "") -> Inspected:
    """Compare targets with what was delivered. Only those that were touched since are read.

    ``root``: as in ``Rules``.
    """
    drifted: dict[str, str] = {}
    stamps: dict[str, FileStamp] = {}
    folders = Folders(disk, root)
    for resource, delivered in targets:
        try:
            status = disk.stat(resource.dest)
            if status is not None and (resource.write_once or stamp(status) == delivered.stamp):
                continue
            current = look(resource, disk, folders)
            if current.stream:
                if delivered.stamp is not None:
                    drifted[resource.name] = "a stream"
                continue
            content = current.content or b""
            found = differences(resource, current, content)
            if current.status is not None and digest(content) != delivered.digest:
                found.insert(0, "content")
            if found or current.status is None:
                drifted[resource.name] = ", ".join(found)
            else:
                stamps[resource.name] = stamp(current.status)
        except OSError as error:
            drifted[resource.name] = f"cannot be seen: {error.strerror}"
        except TargetError as error:
            drifted[resource.name] = error.message
    return Inspected(drifted, stamps)
