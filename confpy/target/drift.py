"""Whether somebody else has touched a target."""

from __future__ import annotations

from confpy.config.resource import Resource
from confpy.errors import TargetError
from confpy.messages import DeliveredState, FileStamp, Inspected
from confpy.system.disk import Disk
from confpy.target import target


def inspect(targets: tuple[tuple[Resource, DeliveredState], ...], disk: Disk, root: str = "") -> Inspected:
    """See whether the targets are still what was delivered. Reads only those that somebody touched.

    ``root``: as in ``Rules``.
    """
    drifted: dict[str, str] = {}
    stamps: dict[str, FileStamp] = {}
    root = disk.resolve(root) if root else ""
    for resource, known in targets:
        try:
            status = disk.stat(resource.dest)
            if status is not None and (resource.write_once or target.stamp(status) == known.stamp):
                continue
            current = target.look(resource, disk, root)
            if current.stream:
                if known.stamp is not None:
                    drifted[resource.name] = "a stream"
                continue
            content = current.content or b""
            found = target.differences(resource, current, content)
            if current.status is not None and target.digest(content) != known.digest:
                found.insert(0, "content")
            if found or current.status is None:
                drifted[resource.name] = ", ".join(found)
            else:
                stamps[resource.name] = target.stamp(current.status)
        except OSError as error:
            drifted[resource.name] = f"cannot be seen: {error.strerror}"
        except TargetError as error:
            drifted[resource.name] = error.message
    return Inspected(drifted, stamps)
