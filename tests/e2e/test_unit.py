"""The shipped unit under a real systemd: what it forbids is forbidden, and the examples work within its limits."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import unit_files
from tests.e2e.examples import etcdctl
from tests.e2e.running import ROOT
from tests.run_as_user import needs
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.systemd import Systemd, no_systemd
from tests.servers.traffic import ask
from tests.servers.web import Backend
from tests.waiting import wait_until

UNIT = ROOT / "examples" / "systemd" / "confpy.service"
OWNED = 'owner = "www-data"\ngroup = "adm"\n'


@pytest.fixture(scope="module")
def machine() -> Iterator[Systemd]:
    """A machine on which the unit is installed."""
    needs(no_systemd())
    with Systemd() as machine:
        (machine.root / "etc/systemd/system/confpy.service").write_text(UNIT.read_text())
        machine.systemctl("daemon-reload")
        yield machine


@pytest.fixture
def confdir(machine: Systemd, etcd: Etcd) -> Iterator[Path]:
    """The confdir of the unit, which follows the test's etcd. The unit is stopped at the end."""
    confdir = machine.root / "etc/confpy"
    machine.call("mkdir", "-p", "/etc/confpy/conf.d", "/etc/confpy/templates")
    (confdir / "confpy.toml").write_text(f'backend = "etcdv3"\nnodes = ["{etcd.endpoint}"]\n')
    yield confdir
    machine.call("systemctl", "stop", "confpy")
    machine.call("systemctl", "reset-failed", "confpy", check=False)
    machine.call("find", "/etc/confpy", "/var/lib/confpy", "-mindepth", "1", "-delete")


PROGRAMS = {
    "haproxy": ("haproxy", "/etc/haproxy/haproxy.cfg"),
    "nginx": ("nginx", "/etc/nginx/nginx.conf"),
    "apache": ("apache2", "/etc/apache2/apache2.conf"),
}
"""What Debian calls the service of each example, and its target."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_example_delivers_changes_owners_and_reloads_within_the_limits_of_the_unit(
    program, machine, confdir, etcd
):
    service, target = PROGRAMS[program]
    port = free_port()
    etcdctl(etcd, "put", "/services/web/port", str(port))
    machine.call("confpy", "init", program, "/etc/confpy")
    resource = confdir / "conf.d" / f"{program}.toml"
    resource.write_text(resource.read_text() + OWNED)
    # As the example's README says: the first configuration, then its program with it, then confpy.
    machine.call("confpy", "-onetime", "-no-reload")
    machine.systemctl("start", service)
    try:
        machine.systemctl("start", "confpy")
        with Backend("a") as a:
            etcdctl(etcd, "put", "/services/web/backends/a", a.address)
            wait_until(lambda: ask(port) == (200, "a"), what=machine.journal("confpy"))
            etcdctl(etcd, "del", "/services/web/backends/a")
            wait_until(lambda: ask(port)[0] == 503, what=machine.journal("confpy"))
        delivered = (machine.root / target[1:]).stat()
        assert stat.S_IMODE(delivered.st_mode) == 0o644
        assert machine.call("stat", "-c", "%U:%G", target).stdout == "www-data:adm\n"
        # Its own program checks and reloads in the sandbox, a broken template fails there, and systemctl hears of it.
        machine.systemctl("reload", "confpy")
        (template,) = (confdir / "templates").iterdir()
        template.write_text(template.read_text() + "\n{{ getv('/none') }}\n")
        assert machine.call("systemctl", "reload", "confpy", check=False).returncode == 1
        assert (machine.root / target[1:]).stat().st_mtime_ns == delivered.st_mtime_ns
        assert "ended" not in machine.journal(service)
        machine.systemctl("is-active", service)
    finally:
        machine.call("systemctl", "stop", "confpy", service)


def test_the_steps_that_init_prints_install_a_service_that_delivers(machine, confdir, etcd):
    words = ("-name", "shop", "-image", "example/shop:1", "-node", etcd.endpoint)
    printed = machine.call("confpy", "init", "systemd", "/tmp/shop", *words).stdout
    steps = [line.strip() for line in printed.partition("Then:")[2].splitlines() if line.strip()]
    start = steps.pop()
    assert start == "systemctl enable --now confpy shop@8080 shop-register@8080"
    # There is no Docker on this machine: its units are looked at, and only confpy is started.
    machine.call("sh", "-euc", "\n".join(steps))
    for unit in ("shop@8080", "shop-register@8080"):
        assert machine.call("systemctl", "show", "--property=LoadState", unit).stdout == "LoadState=loaded\n"
    etcdctl(etcd, "put", "/services/shop/backends/shop-8080", "10.0.0.7:8080")
    machine.systemctl("start", "confpy")
    target = machine.root / "etc/haproxy/haproxy.cfg"
    wait_until(lambda: "10.0.0.7:8080" in target.read_text(), what=machine.journal("confpy"))


RESOURCE = '[template]\nsrc = "probe.j2"\ndest = "{dest}"\nkeys = ["/"]\nreload_cmd = "/usr/local/bin/probe"\n'
PROBE = r"""#!/bin/sh
exec > /run/confpy/probe.new 2>&1
says() { name=$1; shift; if "$@" > /dev/null 2>&1; then echo "$name: yes"; else echo "$name: no"; fi; }
python() { /usr/bin/python3 -c "$1"; }
for folder in /etc /usr /boot /etc/systemd/system; do says "write $folder" touch $folder/probe; done
for folder in /etc/haproxy /etc/nginx /etc/apache2 /run /var/log; do says "write $folder" touch $folder/probe; done
says "mount" sh -c 'mount -t tmpfs none /mnt && umount /mnt'
says "another user's namespace" unshare --user true
says "set the clock" python 'import time; time.clock_settime(time.CLOCK_REALTIME, time.time())'
says "set the host's name" hostname probe
says "set the SUID bit" sh -c 'cp /bin/true /run/suid; chmod u+s /run/suid'
says "see /root" test -e /root/here
says "see /tmp of others" test -e /tmp/here
says "a packet socket" python 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
says "the store's socket" python 'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)'
says "realtime" chrt --fifo 1 true
says "trace" python 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) == -1)'
says "change its owner" chown www-data:adm /etc/haproxy/probe
says "another root" chroot / /bin/true
says "another user" setpriv --reuid=www-data --regid=www-data --clear-groups true
grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
mv /run/confpy/probe.new /run/confpy/probe
"""
ALLOWED = {
    "write /etc/haproxy", "write /etc/nginx", "write /etc/apache2", "write /run", "write /var/log",
    "the store's socket", "change its owner", "another root", "another user",
}  # fmt: skip

CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10, "CAP_SYS_CHROOT": 18,
}  # fmt: skip
"""Their bits: linux/capability.h."""


def test_commands_cannot_do_what_the_unit_forbids_and_can_do_the_rest(machine, confdir, etcd):
    machine.call("touch", "/root/here", "/tmp/here")
    probe = machine.root / "usr/local/bin/probe"
    probe.write_text(PROBE)
    probe.chmod(0o755)
    (confdir / "conf.d/probe.toml").write_text(RESOURCE.format(dest="/etc/haproxy/probe.cfg"))
    (confdir / "templates/probe.j2").write_text("{{ getv('/value') }}")
    etcdctl(etcd, "put", "/value", "1")
    machine.systemctl("start", "confpy")
    found = answers(machine)
    assert {name for name, text in found.items() if text == "yes"} == ALLOWED
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    lines = unit_files.values(unit_files.read(UNIT.read_text())["Service"], "CapabilityBoundingSet")
    assert int(found["CapBnd"], 16) == sum(1 << CAPABILITIES[name] for name in " ".join(lines).split())
    # Without the unit, all of it can be done on this machine.
    machine.call("/usr/local/bin/probe")
    assert "no" not in answers(machine).values()


def answers(machine: Systemd) -> dict[str, str]:
    result = machine.root / "run/confpy/probe"
    wait_until(result.exists, what=machine.journal("confpy"))
    lines = dict(line.split(":", 1) for line in result.read_text().splitlines())
    result.unlink()
    return {name: text.strip() for name, text in lines.items()}


def test_a_target_where_the_unit_forbids_to_write_fails_and_is_said(machine, confdir, etcd):
    (confdir / "conf.d/probe.toml").write_text(RESOURCE.format(dest="/etc/other/file"))
    (confdir / "templates/probe.j2").write_text("{{ getv('/value') }}")
    machine.call("mkdir", "-p", "/etc/other")
    etcdctl(etcd, "put", "/value", "1")
    machine.call("systemctl", "start", "--no-block", "confpy")

    def said() -> str:
        lines = machine.journal("confpy").splitlines()
        return next((line for line in lines if "resource.failed" in line and "/etc/other" in line), "")

    line = wait_until(said, what="the resource has failed")
    assert "Read-only file system" in line
    assert not (machine.root / "etc/other/file").exists()
