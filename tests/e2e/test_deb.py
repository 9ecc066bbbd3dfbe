"""The Debian package in a clean Debian: installed, upgraded, removed and purged; and what lintian says of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from confpy import __version__
from tests.e2e.packages import built
from tests.e2e.roots import Root, needs_roots

OF_DPKG = ("/var/lib/dpkg", "/var/log", "/var/cache/apt", "/var/cache/debconf", "/var/cache/ldconfig", "/root", "/tmp")
"""Where dpkg records what it did, and where this test has its own files."""
WARNINGS = ("package-supports-alternative-init-but-no-init.d-script",)
"""What lintian may say: there is no script for other init systems."""

pytestmark = pytest.mark.timeout(300)  # the first test builds the packages, whose libraries are fetched


@pytest.fixture(scope="module")
def deb() -> Path:
    (found,) = built("deb").glob("*.deb")
    return found


@pytest.fixture
def root(tmp_path):
    needs_roots()
    with Root(tmp_path) as root:
        yield root


def every_file(root: Root) -> dict[str, str]:
    """Return all files and folders of a root: their type, mode, owner and content."""
    skipped = " -o ".join(f"-path {path}" for path in OF_DPKG)
    found = f"find / -xdev \\( {skipped} \\) -prune -o"
    about = root.run(f"{found} -printf '%p|%y %m %u:%g %l\\n'")
    digests = root.run(f"{found} -type f -exec sha256sum {{}} +")
    files = dict(line.split("|", 1) for line in about.splitlines())
    for line in digests.splitlines():
        digest, _, path = line.partition("  ")
        files[path] += digest
    return files


def dpkg(root: Root, arguments: str) -> str:
    return root.run(f"dpkg --force-confdef --force-confold {arguments} 2>&1")


def newer(deb: Path, folder: Path) -> Path:
    """Return the next version of a package, whose settings differ from those of this one."""
    subprocess.run(["dpkg-deb", "-R", deb, folder / "next"], check=True, timeout=60)
    control, settings = folder / "next/DEBIAN/control", folder / "next/etc/confpy/confpy.toml"
    control.write_text(control.read_text().replace(f"Version: {__version__}", "Version: 999"))
    settings.write_text(f"{settings.read_text()}\n# A new setting.\n")
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", folder / "next", folder / "next.deb"]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return folder / "next.deb"


def test_after_a_purge_the_machine_has_what_it_had_before_and_what_the_user_made(deb, tmp_path, root):
    before = every_file(root)
    root.take(deb)
    dpkg(root, f"-i {deb.name}")
    root.run(
        """
        confpy init nginx /tmp/new
        confpy check -confdir /tmp/new
        # Resources of the user, who runs it.
        printf '%s\\n' '[template]' 'src = "a.j2"' 'dest = "/tmp/a"' > /etc/confpy/conf.d/a.toml
        echo text > /etc/confpy/templates/a.j2
        confpy -onetime -backend env
        test "$(cat /tmp/a)" = text
        ls -d /var/lib/confpy /var/cache/confpy
        echo 'backend = "env"' >> /etc/confpy/confpy.toml
        """
    )
    root.take(newer(deb, tmp_path))
    dpkg(root, "-i next.deb")
    assert root.run("dpkg-query -f '${Version}' -W confpy; tail -n 1 /etc/confpy/confpy.toml") == '999backend = "env"\n'
    assert (root.path / "etc/confpy/confpy.toml.dpkg-dist").read_text().endswith("# A new setting.\n")
    root.run("rm /tmp/a; confpy -onetime; test $(cat /tmp/a) = text")
    enabled = "/etc/systemd/system/multi-user.target.wants"
    # What "systemctl enable confpy" does.
    root.run(f"ln -s /usr/lib/systemd/system/confpy.service {enabled}/")
    dpkg(root, "--remove confpy")
    removed = every_file(root)
    assert not [path for path in removed if path.startswith("/usr") and path not in before]
    assert removed["/etc/systemd/system/confpy.service"].endswith("/dev/null")
    assert {"/etc/confpy/confpy.toml", "/var/lib/confpy"} <= removed.keys()
    dpkg(root, "--purge confpy")
    after = every_file(root)
    made = {"/etc/confpy", "/etc/confpy/conf.d", "/etc/confpy/templates"}
    made |= {"/etc/confpy/conf.d/a.toml", "/etc/confpy/templates/a.j2"}
    assert {path: about for path, about in after.items() if path not in made} == before
    assert made <= after.keys()


def test_all_modules_are_compiled_and_stay_so_when_scripts_run_again_and_removals_fail(deb, root):
    compiled = "cd /usr/lib/confpy; find . -name '*.py' | wc -l; find . -name '*.pyc' | wc -l"
    root.take(deb)
    root.run(f"dpkg -i {deb.name}", {"PYTHONDONTWRITEBYTECODE": "1"})
    modules, bytecode = root.run(compiled).split()
    assert modules == bytecode
    scripts = "/var/lib/dpkg/info/confpy"
    root.run(f"{scripts}.postinst configure {__version__}; {scripts}.postinst configure")
    root.run(f"{scripts}.prerm remove; {scripts}.prerm remove")
    assert root.run(compiled).split() == [modules, "0"]
    root.run(f"{scripts}.postinst abort-remove")
    assert root.run(compiled).split() == [modules, bytecode]
    root.run(f"{scripts}.prerm remove; rm -r /usr/lib/confpy; {scripts}.prerm remove; {scripts}.postrm remove")
    root.run(f"{scripts}.postrm purge; {scripts}.postrm purge")


def test_an_installation_of_confd_is_pointed_out_once_and_taken_over_by_one_setting(deb, root):
    root.take(deb)
    root.run(
        """
        mkdir -p /etc/confd/conf.d /etc/confd/templates
        printf '%s\\n' '[template]' 'src = "b.tmpl"' 'dest = "/tmp/b"' > /etc/confd/conf.d/b.toml
        echo text of confd > /etc/confd/templates/b.tmpl
        """
    )
    said = dpkg(root, f"-i {deb.name}")
    assert said.count("/etc/confd has resources") == 1
    assert "/etc/confd has resources" not in dpkg(root, f"-i {deb.name}")
    root.run(
        """printf '%s\\n' 'backend = "env"' 'confdir = "/etc/confd"' >> /etc/confpy/confpy.toml; confpy -onetime"""
    )
    assert (root.path / "tmp/b").read_text() == "text of confd\n"


def test_lintian_finds_no_error_and_nothing_that_is_not_explained(deb):
    assert shutil.which("lintian"), "lintian is not installed; scripts/test installs it"
    command = ["lintian", "--allow-root", "--no-cfg", "--display-info", "--suppress-tags", ",".join(WARNINGS), deb]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    # A page of the status server is no documentation, as lintian takes HTML to be.
    html = "package-contains-documentation-outside-usr-share-doc [usr/lib/confpy/confpy/status/"
    assert [line for line in ended.stdout.splitlines() if html not in line] == []
    assert ended.returncode == 0, ended.stderr


def test_the_licence_of_each_library_is_in_the_copyright_file(deb, tmp_path):
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path], check=True, timeout=60)
    said = (tmp_path / "usr/share/doc/confpy/copyright").read_text()
    libraries = tmp_path / "usr/lib/confpy"
    tops = {path.name for path in libraries.iterdir() if path.name != "confpy" and "dist-info" not in path.name}
    listed = {word.split("/")[3] for word in said.split() if word.startswith("usr/lib/confpy/")}
    assert tops <= listed
    for stanza in said.split("\n\n")[1:]:
        fields = {line.partition(":")[0] for line in stanza.splitlines() if not line.startswith(" ")}
        assert fields == {"Files", "Copyright", "License"}
        assert len(stanza.partition("\nLicense: ")[2].splitlines()) > 1, stanza
