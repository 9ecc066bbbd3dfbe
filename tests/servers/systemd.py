"""A real systemd as PID 1 of namespaces, on this machine's files: what units forbid is forbidden.

Its root is the machine's with a layer in memory above, where all changes stay. It shares the machine's network, and has
its own ``/run``, ``/tmp`` and ``/dev``. Of the machine's units it starts those that a test asks for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.run_as_user import refused
from tests.servers.persistent import PersistentServer
from tests.servers.program import find
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
APART = ("unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
OUTSIDE = """
cd "$1"; shift
mkdir cgroup layer
# In control groups of its own, which are removed at the end. cgroup2 can be mounted beside the older kind, too.
mount -t cgroup2 none cgroup
group=cgroup/$(sed -n 's/^0::.//p' /proc/self/cgroup)/confpy-systemd-$$
mkdir "$group"
sh -euc 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' sh "$group" "$@" &
trap 'kill -KILL $!' TERM
wait $! || wait $! || true
for _ in 1 2 3 4 5 6 7 8 9 10; do
    find "$group" -depth -type d -exec rmdir {} + 2> /dev/null && break
    sleep 0.2
done
"""
INSIDE = """
init=$1 package=$2 libraries=$3 prefix=$4 python=$5
mount -t tmpfs none layer; cd layer; mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
cd root
mount -t proc none proc
mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
mount -t tmpfs -o mode=755 none dev
mkdir dev/shm dev/pts
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
ln -s /proc/self/fd dev/fd; ln -s pts/ptmx dev/ptmx

# confpy where the unit expects it, its Python and its libraries where no ProtectHome= hides them.
tested=usr/lib/confpy-tested
mkdir -p $tested/package/confpy $tested/libraries $tested/python
mount --bind "$package" $tested/package/confpy
mount --bind "$libraries" $tested/libraries
mount --bind "$prefix" $tested/python
cat > usr/bin/confpy << EOF
#!/bin/sh
export PYTHONPATH=/$tested/package:/$tested/libraries PYTHONDONTWRITEBYTECODE=1
exec /$tested/python/$python -m confpy "\\$@"
EOF
chmod 755 usr/bin/confpy
for folder in etc/confpy var/lib/confpy var/cache/confpy; do
    mkdir -p $folder
    mount -t tmpfs -o mode=755 none $folder
done
rm -rf etc/systemd/system usr/lib/systemd/system/sysinit.target.wants usr/lib/systemd/system/*.mount
mkdir -p etc/systemd/system
cat > etc/systemd/system/tested.target << EOF
[Unit]
Requires=systemd-journald.service systemd-journald-dev-log.socket
After=systemd-journald.service
EOF
rm -f etc/machine-id
echo 0123456789abcdef0123456789abcdef > etc/machine-id

mkdir old
pivot_root . old
umount -l old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin "$init" --unit=tested.target --show-status=no
"""


TRIES = """
mount -t tmpfs none /mnt; cd /mnt; mkdir upper work root cgroup
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
mount -t cgroup2 none cgroup
"""
"""What can be refused."""


def no_systemd() -> str:
    """Say why no systemd can be started here, empty where it can."""
    if os.geteuid() != 0:
        return "only root can start systemd"
    return refused(*APART, "sh", "-euc", TRIES)


class Systemd(PersistentServer):
    """One such machine. Its files are below ``root``; ``call`` runs programs on it."""

    name = "systemd"

    def __init__(self) -> None:
        super().__init__()
        self._init = 0
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        inits = [folder / "systemd/systemd" for folder in (Path("/usr/lib"), Path("/lib"))]
        (init, *_) = [str(path) for path in inits if path.exists()]
        python = os.path.relpath(os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix))
        paths = (init, str(ROOT / "confpy"), sysconfig.get_path("purelib"), sys.base_prefix, python)
        within = ("sh", "-euc", INSIDE, "sh", *paths)
        self.run(
            ["unshare", "--mount", "sh", "-euc", OUTSIDE, "sh", str(self.folder), *APART, *within],
            {"PATH": os.environ["PATH"]},
        )
        wait_until(self._runs, what="systemd runs")

    def _runs(self) -> bool:
        self.alive()
        self._init = self._find_init()
        return bool(self._init) and self.call("systemctl", "is-active", "tested.target", check=False).returncode == 0

    def _find_init(self) -> int:
        """Return its number outside of its namespaces: the first process below that has another mount namespace."""
        assert self.process is not None
        below = [self.process.pid]
        while below:
            pid = below.pop()
            try:
                below += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                status = Path(f"/proc/{pid}/status").read_text()
                name = Path(f"/proc/{pid}/comm").read_text()
            except OSError:
                continue
            (numbers,) = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
            if name == "systemd\n" and numbers[1:] == ["1"]:
                return pid
        return 0

    @property
    def root(self) -> Path:
        """Its files, seen from outside."""
        return Path(f"/proc/{self._init}/root")

    def call(self, *command: str, check: bool = True, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a program on it, as root; fail with what it says where it fails, unless ``check`` is false."""
        within = [find("nsenter"), f"--target={self._init}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        ended = subprocess.run(
            [*within, *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert ended.returncode == 0 or not check, f"{' '.join(command)}: {ended.stderr}{ended.stdout}"
        return ended

    def systemctl(self, *words: str) -> None:
        """Run ``systemctl``; where it fails, say what the journal has about the unit."""
        ended = self.call("systemctl", *words, check=False)
        assert ended.returncode == 0, f"systemctl {' '.join(words)}: {ended.stderr}{self.journal(words[-1])[-3000:]}"

    def journal(self, unit: str) -> str:
        """Return what a unit has said, and what systemd has said of it."""
        return self.call("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def kill(self) -> None:
        """End it with all that runs on it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None
