"""The store that the manual's page on stores of your own shows: installed by pip, and used by a whole confpy."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.e2e.running import environment
from tests.pages import ROOT, blocks

PAGE = ROOT / "docs" / "stores" / "your-own.md"


def test_the_store_of_the_manual_is_installed_and_rendered_from(tmp_path: Path) -> None:
    found = {block.language: block.text for block in blocks(PAGE)}
    assert len(found["python"].splitlines()) <= 50
    project = tmp_path / "confpy-dotenv"
    project.mkdir()
    (project / "pyproject.toml").write_text(found["toml"])
    (project / "confpy_dotenv.py").write_text(found["python"])
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    # It has what this Python has, and what is installed in it alone.
    here = sysconfig.get_path("purelib", vars={"base": str(folder)})
    Path(here, "these.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", str(project)], check=True, timeout=120)

    (tmp_path / "app.env").write_text("# comment\nAPP_PORT=80\nAPP_NAME=a=b\n")
    for name in ("conf.d", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "templates" / "t.j2").write_text('{{ getv("/app/name") }} {{ getv("/app/port") }}\n')
    (tmp_path / "conf.d" / "app.toml").write_text(
        f'[template]\nsrc = "t.j2"\ndest = "{tmp_path}/out"\nkeys = ["/app"]\n'
    )

    def confpy(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "confpy", "-onetime", "-backend", "dotenv", "-confdir", str(tmp_path), *flags]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment(tmp_path)
        )

    done = confpy("-store-option", f"path={tmp_path}/app.env")
    assert (done.returncode, (tmp_path / "out").read_text()) == (0, "a=b 80\n"), done.stderr
    without = confpy()
    assert without.returncode == 2
    assert "the store dotenv has no file" in without.stderr
    away = confpy("-store-option", f"path={tmp_path}/none")
    assert away.returncode == 3
    assert "cannot read the file: No such file or directory" in away.stderr
