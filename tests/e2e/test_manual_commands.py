"""The commands of confpy that stand in the manual are run: none is refused, none is a bug."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.host import Host
from tests.e2e.running import ROOT
from tests.pages import PAGES, TYPED, Block, blocks
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port

KEYS = 'services: {web: {port: 8080, backends: {a: "10.0.0.1:80"}}}\n'
AWAY = re.compile(r"10\.1\.1\.|\.example\b|example\.com|backend consul|backend docker|backend etcdv2")
"""Nodes that no test can reach: such a command may find no store (3), or not the file of a secret (2)."""
UNSET = re.compile(r"/run/secrets/|/etc/docker/certs|/etc/ssl/etcd-ca\.pem")


def commands() -> Iterator[tuple[Block, str]]:
    for page in PAGES:
        if page.is_relative_to(ROOT / "examples"):
            continue  # the tests of the examples run what is in their pages
        for block in blocks(page):
            if page not in TYPED and block.language == "sh" and not block.unrun:
                for line in re.sub(r"until (confpy .*); do\n.*\ndone\nexec .*\n", r"\1\n", block.text).splitlines():
                    if re.search(r"(^| )(confpy|confd)( |$)", line) and not line.startswith("#"):
                        yield block, line


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Etcd() as etcd:
        host = Host(tmp_path_factory.mktemp("host"), etcd, {"ETCD": etcd.endpoint, "IMAGE": "image"})
        host.moved |= {f"http://10.0.0.{number}:2379": etcd.endpoint for number in (1, 2)}
        for name in ("examples/haproxy", "examples/nginx", "examples/apache", "proxies/web", "proxies/api"):
            _, _, program = name.rpartition("/")
            source = ROOT / "confpy" / "examples" / (program if name.startswith("examples") else "haproxy")
            shutil.copytree(source, host.home / name)
        for confdir in ("/etc/confpy", "/etc/confd"):
            shutil.copytree(host.home / "examples/haproxy", host.file(confdir), dirs_exist_ok=True)
        (host.folder / "confd/templates/haproxy.cfg.j2").rename(host.folder / "confd/templates/haproxy.cfg.tmpl")
        for resource in host.folder.glob("**/conf.d/*.toml"):
            text = re.sub(r'^dest = ".*/', f'dest = "{host.folder}/targets/', resource.read_text(), flags=re.MULTILINE)
            # The programs do not run here: what is reloaded, and checked against users of Debian, other tests do.
            text = re.sub(r"^(check_cmd|reload_\w+|verify) = .*\n", "", text, flags=re.MULTILINE)
            resource.write_text(text + "mkdir = true\n")
        resource = host.folder / "confd/conf.d/haproxy.toml"
        resource.write_text(resource.read_text().replace(".j2", ".tmpl") + 'engine = "jinja"\n')
        shutil.copytree(host.home / "examples/haproxy/templates", host.home / "templates")
        for path in ("keys.yaml", "myapp/keys.yaml", "myapp.d/keys.yaml", "defaults.yaml", "secrets/services/web/port"):
            made = host.folder / "etc" / path
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text("8080\n" if path.startswith("secrets") else KEYS)
        shutil.copy(host.folder / "etc/keys.yaml", host.home)
        host.moved |= {f"/etc/{name}": f"{host.folder}/etc/{name}" for name in ("myapp", "defaults.yaml")}
        host.moved["/run/secrets -file-format"] = f"{host.folder}/etc/secrets -file-format"
        host.command("confd", 'exec confpy "$@"')
        etcd.put("/services/web/backends/a", "10.0.0.1:80")
        yield host


LINES = [*commands()]


@pytest.mark.parametrize(("block", "line"), LINES, ids=[f"{block.place} {line[:40]}" for block, line in LINES])
def test_a_command_of_the_manual_is_taken(host: Host, block: Block, line: str) -> None:
    line = line.partition("  #")[0].replace(" RESOURCE", " haproxy")
    line = line.replace(":9100", f":{free_port()}")
    runs_on = "-onetime" not in line and not re.search(r"confpy [a-z]", line)
    line = line.replace("convert /etc/confd ", "convert /etc/confd converted ")  # /etc/confpy is there already
    shutil.rmtree(host.folder / "state", ignore_errors=True)  # what another store has shown is not to be compared
    printed = host.run(f"timeout -k 9 -s TERM 1.5 env {line}" if runs_on else line)
    text = "\n".join(printed)
    assert "Traceback" not in text
    allowed = (
        {0, 10, 11, 12, 124} | ({3, 4} if AWAY.search(line) else set()) | ({2, 3} if UNSET.search(line) else set())
    )
    if "accept" in line:
        allowed |= {2}  # nothing is held
    assert host.code in allowed, f"{block.place}: $ {line}\n{host.code}\n{text}"


def test_there_are_commands_of_many_pages() -> None:
    assert len({block.page for block, _ in LINES}) > 15
