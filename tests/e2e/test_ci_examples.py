"""The pipelines of ``examples/ci``: their own commands, in a repository as their comments describe it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.running import ROOT, in_path

FOLDER = ROOT / "examples" / "ci"
CHECK, TEST, DIFF = 0, 1, 2


def commands(name: str) -> list[str]:
    """Return what a pipeline runs after it has installed confpy."""
    pipeline = yaml.safe_load((FOLDER / name).read_text())
    if "jobs" in pipeline:
        (job,) = pipeline["jobs"].values()
        lines = [step["run"] for step in job["steps"] if "run" in step]
    else:
        lines = [*pipeline["proxies"]["before_script"], *pipeline["proxies"]["script"]]
    assert lines.pop(0) == "pip install confpy"
    return lines


class Repository:
    """A folder with ``proxies``, ``keys.yaml`` and what they render, and a shell in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = in_path(folder)
        self.run("confpy init haproxy proxies")
        (folder / "keys.yaml").write_text((folder / "proxies/tests/haproxy.cfg.servers.keys.yaml").read_text())
        (folder / "rendered").mkdir()
        self.write()

    def run(self, line: str) -> int:
        return subprocess.run(
            ["sh", "-euc", line],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        ).returncode

    def write(self) -> None:
        """Write the rendered files as the page says."""
        (line,) = re.findall(r"```sh\n(confpy -onetime .*)\n```", (FOLDER / "README.md").read_text())
        assert self.run(line) == 0

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def results(self, name: str) -> list[int]:
        return [self.run(line) for line in commands(name)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize("name", ["github.yml", "gitlab-ci.yml"])
def test_each_step_of_a_pipeline_finds_what_it_is_for(name, repository):
    assert repository.results(name) == [0, 0, 0]
    assert (repository.folder / "rendered/etc/haproxy/haproxy.cfg").exists()

    repository.edit("keys.yaml", "10.0.0.1:80", "10.0.0.9:80")
    assert repository.results(name) == [0, 0, 10]
    repository.write()
    assert repository.results(name) == [0, 0, 0]

    repository.edit("proxies/templates/haproxy.cfg.j2", "balance roundrobin", "balance leastconn")
    assert repository.results(name) == [0, 4, 10]

    repository.edit("proxies/templates/haproxy.cfg.j2", "{%- endfor %}", "")
    assert repository.results(name)[CHECK] == 2


def test_the_job_of_gitlab_leaves_the_report_that_it_names(repository):
    repository.results("gitlab-ci.yml")
    job = yaml.safe_load((FOLDER / "gitlab-ci.yml").read_text())["proxies"]
    assert "<testsuite" in (repository.folder / job["artifacts"]["reports"]["junit"]).read_text()
