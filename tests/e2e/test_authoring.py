"""The commands for authors of templates, with a real store and a real delivery beside them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.running import command, environment
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

TEMPLATE = 'port {{ getv("/port") }}\n{% for k, v in gets("/b/*") %}server {{ base(k) }} {{ v }}\n{% endfor %}'


class Author:
    """A confdir whose keys are in etcd."""

    def __init__(self, folder: Path, etcd: Etcd) -> None:
        self.folder = folder
        self.target = folder / "web.cfg"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        self.template = folder / "templates" / "web.cfg.j2"
        self.template.write_text(TEMPLATE)
        (folder / "conf.d" / "web.toml").write_text(
            f'[template]\nsrc = "web.cfg.j2"\ndest = "{self.target}"\nprefix = "/authors"\nkeys = ["/"]\n'
        )
        self.flags = ["-confdir", str(folder), "-backend", "etcdv3", "-node", etcd.endpoint]
        self.environment = environment(folder)

    def run(self, *words: str) -> str:
        """Run a command that has to succeed; returns what it prints."""
        line = command(*words, *self.flags)
        done = subprocess.run(line, env=self.environment, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def author(tmp_path: Path, etcd: Etcd) -> Author:
    etcd.delete("/authors", prefix=True)
    etcd.put_all({"/authors/port": "80", "/authors/b/a": "10.0.0.1:80", "/authors/b/b": "10.0.0.2:80"})
    return Author(tmp_path, etcd)


def test_why_names_the_revision_and_says_when_the_file_is_older(author: Author, etcd: Etcd) -> None:
    author.run("-onetime")
    line = author.run("why", f"{author.target}:3")
    assert "  keys      /authors/b/b\n" in line
    assert "  template  web.cfg.j2:2:38\n" in line
    assert f"  revision  {etcd.revision()}\n" in line
    assert f"Z, revision {etcd.revision()}\n" in line.partition("  delivered 20")[2]
    assert "differs" not in line
    etcd.put("/authors/b/aa", "10.0.0.3:80")
    assert "differs from what rendering gives now" in author.run("why", f"{author.target}:3")
    assert "  keys      /authors/b/b\n" in author.run("why", f"{author.target}:3")
    etcd.put("/authors/port", "81")
    assert "Rendering does not give this line now" in author.run("why", f"{author.target}:1")
    assert "in line 1." in author.run("why", f"{author.target}:1")


def test_keys_and_render_show_what_the_store_has(author: Author) -> None:
    assert author.run("keys") == "/authors/b/a = ***\n/authors/b/b = ***\n/authors/port = ***\n"
    assert author.run("keys", "/authors/port", "-values") == '/authors/port = "80"\n'
    assert author.run("render", "web") == "port 80\nserver a 10.0.0.1:80\nserver b 10.0.0.2:80\n"
    assert not author.target.exists()


def test_render_watch_follows_the_template_and_the_keys(author: Author, etcd: Etcd, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    with shown.open("wb") as file:
        line = command("render", "web", "-watch", *author.flags)
        process = subprocess.Popen(line, env=author.environment, stdout=file, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: b"port 80\n" in shown.read_bytes())
        etcd.put("/authors/port", "81")
        wait_until(lambda: b"port 81\n" in shown.read_bytes())
        new = tmp_path / "new"
        new.write_text("PORT {{ getv('/port') }}\n")
        os.replace(new, author.template)
        wait_until(lambda: b"PORT 81\n" in shown.read_bytes())
    finally:
        process.terminate()
        assert process.wait(30) != 1
