"""A real Docker engine, apart from the machine's: its own namespaces, its data in a temporary folder.

Its bridges, rules, mounts and processes live in namespaces of their own, and are gone with them. A pair of interfaces
joins its network with the machine's: a published port answers at ``address``, and containers reach ``gateway``.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.run_as_user import refused
from tests.servers.persistent import PersistentServer
from tests.servers.program import find
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until

APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
PREPARE = """
ip link set lo up
# A containerd of the machine is not to be used.
[ ! -d /run/containerd ] || mount -t tmpfs none /run/containerd
"""
NETWORKS = 2**15
"""How many networks of four addresses 198.18.0.0/15 has: nobody else uses it, by RFC 2544."""


def no_docker() -> str:
    """Say why no engine can run here, empty where it can."""
    return refused(*APART, "ip", "link", "set", "lo", "up") if os.geteuid() == 0 else "only root can start Docker"


class Docker(PersistentServer):
    """An engine without images: there is no registry, they are imported."""

    name = "docker"
    prepare = PREPARE
    """The script that starts it in its namespaces."""
    limits: tuple[str, ...] = ()
    """What ``docker run`` has to be given here."""

    def __init__(self, *, again: bool = False) -> None:
        """``again``: whenever its daemon ends, it is started again in the same namespaces."""
        super().__init__()
        self._again = again
        self.socket = self.folder / "socket"
        self.environment = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder / "config")}
        """What a program needs to find it."""
        number = random.randrange(NETWORKS)
        second, third, first = 18 + number // 2**14, number // 64 % 256, number % 64 * 4
        self.gateway, self.address = (f"198.{second}.{third}.{first + host}" for host in (1, 2))
        self.label = f"confpy{number}"
        """The name of its interface on the machine, and of its control group."""
        self._relays: list[FaultProxy] = []
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start it (again) on its folder; return when it answers."""
        ending = 'while :; do "$@" || true; sleep 0.2; done' if self._again else 'exec "$@"'
        script = f"{self.prepare}{ending}\n"
        self.run([*APART, "sh", "-euc", script, "sh", *self.daemon()], {"PATH": os.environ["PATH"]})
        wait_until(self._answers, what=f"{self.name} answers")
        self._join()

    def daemon(self) -> list[str]:
        """Return the command that starts it."""
        return [
            find("dockerd"), f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}", f"--pidfile={self.folder / 'pid'}", f"--host=unix://{self.socket}",
            "--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{self.label}",
        ]  # fmt: skip

    def _answers(self) -> bool:
        self.alive()
        return self.call("version", check=False).returncode == 0

    def _join(self) -> None:
        """Connect its network with the machine's."""
        assert self.process is not None
        (child,) = children(self.process.pid)
        within = ("nsenter", "--net", f"--target={child}")
        for command in (
            ("ip", "link", "add", self.label, "type", "veth", "peer", "name", "uplink", "netns", child),
            ("ip", "address", "add", f"{self.gateway}/30", "dev", self.label),
            ("ip", "link", "set", self.label, "up"),
            (*within, "ip", "address", "add", f"{self.address}/30", "dev", "uplink"),
            (*within, "ip", "link", "set", "uplink", "up"),
            (*within, "ip", "route", "add", "default", "via", self.gateway),
        ):
            subprocess.run(command, check=True, timeout=30)

    def kill(self) -> None:
        """End it with all containers: with its first process, its namespaces go."""
        if self.process is not None:
            super().kill()
            wait_until(self._gone, what="its namespaces and control groups are gone")

    def _gone(self) -> bool:
        for folder in sorted(self.control_groups(), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        return not self.control_groups() and not Path(f"/sys/class/net/{self.label}").exists()

    def control_groups(self) -> list[Path]:
        """Return those of its containers, and what they are below."""
        return list(Path("/sys/fs/cgroup").glob(f"**/{self.label}/**/"))

    def stop(self) -> None:
        """End it and remove its folder. Any number of times."""
        for relay in self._relays:
            relay.close()
        self._relays.clear()
        super().stop()

    def signal_daemon(self, number: int) -> None:
        """Send a signal to the daemon alone; its containers go on, or not, as it wants them to."""
        assert self.process is not None
        (first,) = children(self.process.pid)
        (daemon, *_) = children(first) if self._again else [first]
        os.kill(int(daemon), number)

    # --- use ---------------------------------------------------------------------------------------------------------

    def call(self, *arguments: str, check: bool = True, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run ``docker ARGUMENTS``; fail with what it says where it fails, unless ``check`` is false."""
        ended = subprocess.run(
            [find("docker"), *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert ended.returncode == 0 or not check, f"docker {' '.join(arguments)}: {ended.stderr}{ended.stdout}"
        return ended

    def import_image(self, name: str, source: Path, *changes: str) -> None:
        """Make an image of a folder, or of a tar file; ``changes`` are lines of a Dockerfile, such as ``CMD``."""
        tar = source
        if source.is_dir():
            tar = self.folder / "image.tar"
            owned = ("--owner=0", "--group=0", "--numeric-owner")
            subprocess.run(["tar", "-C", source, *owned, "-cf", tar, "."], check=True, timeout=100)
        self.call("import", *(f"--change={change}" for change in changes), str(tar), name)
        if tar != source:
            tar.unlink()

    def relay(self, port: int) -> str:
        """Let containers reach a server of the machine's loopback; returns address and port for them."""
        relay = FaultProxy(port, address=self.gateway)
        self._relays.append(relay)
        return f"{self.gateway}:{relay.port}"


def children(process: int | str) -> list[str]:
    """Return the ids of the processes that a process has started."""
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


class Podman(Docker):
    """A Podman service, which Docker's client speaks to as well. Only its containers live on when it ends."""

    name = "podman"
    # Limits as they are for a user: here, root may not raise them.
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    # What it writes outside its folders: locks, networks, addresses.
    prepare = f"""{PREPARE}
mount -t tmpfs none /run
[ ! -d /var/lib/cni ] || mount -t tmpfs none /var/lib/cni
"""

    def daemon(self) -> list[str]:
        """Return the command that starts it: a service that does not end when nobody asks it for a while."""
        return [
            find("podman"), f"--root={self.folder / 'data'}", f"--runroot={self.folder / 'run'}",
            f"--tmpdir={self.folder / 'tmp'}", f"--network-config-dir={self.folder / 'networks'}",
            "--storage-driver=vfs", "--cgroup-manager=cgroupfs", f"--runtime={find('runc')}", "--events-backend=file",
            "--log-level=error", "system", "service", "--time=0", f"unix://{self.socket}",
        ]  # fmt: skip


def busybox_root(folder: Path) -> Path:
    """Fill a folder with a root in which a shell and a web server run; returns it."""
    binary = folder / "bin" / "busybox"
    binary.parent.mkdir(parents=True)
    shutil.copy(find("busybox"), binary)
    applets = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True, timeout=30).stdout
    for applet in applets.split():
        with suppress(FileExistsError):
            (binary.parent / applet).symlink_to("busybox")
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    return folder
