"""What ``examples/coreos`` gives to machines is read as their own programs read it, and is right for confpy."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from confpy import cli
from tests import unit_files

FOLDER = Path(__file__).parents[2] / "examples" / "coreos"
ETCD = {"discovery", "addr", "peer-addr"}
"""Of etcd 0.4, the version of that world: https://github.com/coreos/coreos-cloudinit, Documentation/cloud-config.md."""
FLEET = {"Conflicts", "Global", "MachineID", "MachineMetadata", "MachineOf"}
"""https://github.com/coreos/fleet, Documentation/unit-files-and-scheduling.md."""


def units() -> dict[str, str]:
    """Every unit of the example, those in the machines' data too."""
    found = {path.name: path.read_text() for path in FOLDER.glob("*.service")}
    cloud, flatcar = (yaml.safe_load((FOLDER / name).read_text()) for name in ("cloud-config.yaml", "flatcar.bu"))
    found |= {f"cloud-{unit['name']}": unit["content"] for unit in cloud["coreos"]["units"] if "content" in unit}
    found |= {f"flatcar-{unit['name']}": unit["contents"] for unit in flatcar["systemd"]["units"] if "contents" in unit}
    return found


@pytest.mark.parametrize("name", sorted(units()))
def test_units_start_containers_and_clear_away_what_a_crash_left(name):
    found = unit_files.read(units()[name])
    assert set(found) <= {"Unit", "Service", "Install", "X-Fleet"}
    assert {setting for setting, _ in found.get("X-Fleet", [])} <= FLEET
    service = dict(found["Service"])
    assert "ExecStart" in service
    if "docker run" in service["ExecStart"]:
        started = service["ExecStart"].partition("--name ")[2].split()[0]
        assert service["ExecStartPre"].startswith("-/usr/bin/docker rm ")
        assert service["ExecStartPre"].endswith(started)
        assert service["TimeoutStartSec"] == "0"


def test_a_key_that_a_unit_registers_is_removed_when_it_stops_and_its_sidekick_keeps_the_same_alive():
    service = unit_files.read((FOLDER / "sample.application.1@.service").read_text())["Service"]
    text = " ".join(value for setting, value in service if setting in {"ExecStartPost", "ExecStart"})
    (key,) = set(re.findall(r"etcdctl set (\S+)", text))
    assert ("ExecStopPost", f"/usr/bin/etcdctl rm {key}") in service
    sidekick = dict(unit_files.read((FOLDER / "sample.application.1-register@.service").read_text())["Service"])
    assert f"confpy register {key} " in sidekick["ExecStart"]


def places(name: str, machines: dict[str, str], running: dict[str, str]) -> set[str]:
    """Return the machines on which fleet may start a unit, by their metadata and by what runs where."""
    template = f"{name.partition('@')[0]}@.service" if "@" in name else name
    settings = unit_files.read((FOLDER / template).read_text())["X-Fleet"]
    wanted = dict(settings)
    names = unit_files.specifiers(name)

    def fits(machine: str) -> bool:
        here = [unit for unit, where in running.items() if where == machine]
        return (
            wanted.get("MachineMetadata", machines[machine]) == machines[machine]
            and not any(fnmatch.fnmatch(unit, wanted.get("Conflicts", "")) for unit in here)
            and ("MachineOf" not in wanted or unit_files.specify(wanted["MachineOf"], names) in here)
        )

    return {machine for machine in machines if fits(machine)}


def test_fleet_starts_each_instance_on_a_host_of_its_own_with_its_sidekick_and_confpy_where_the_proxies_are():
    machines = {"proxy-1": "role=proxy", "proxy-2": "role=proxy", "web-1": "role=web", "web-2": "role=web"}
    running: dict[str, str] = {}
    app, sidekick = "sample.application.1@808{}.service", "sample.application.1-register@808{}.service"
    for number in range(2):
        found = places(app.format(number), machines, running)
        assert len(found) == 2 - number
        assert found <= {"web-1", "web-2"}
        running[app.format(number)] = min(found)
        assert places(sidekick.format(number), machines, running) == {min(found)}
    assert places(app.format(2), machines, running) == set()
    assert places("confpy.service", machines, running) == {"proxy-1", "proxy-2"}


def test_the_cloud_config_starts_etcd_and_confpy():
    text = (FOLDER / "cloud-config.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    assert set(config) == {"hostname", "write_files", "coreos"}
    assert set(config["coreos"]) == {"etcd", "fleet", "units"}
    assert set(config["coreos"]["etcd"]) == ETCD
    started = {unit["name"] for unit in config["coreos"]["units"] if unit["command"] == "start"}
    assert started >= {"etcd.service", "confpy.service"}


def test_the_butane_config_enables_etcd_and_confpy():
    config = yaml.safe_load((FOLDER / "flatcar.bu").read_text())
    assert (config["variant"], config["version"]) == ("flatcar", "1.1.0")
    assert {unit["name"] for unit in config["systemd"]["units"] if unit["enabled"]} >= {
        "etcd-member.service",
        "confpy.service",
    }


def files(name: str) -> dict[str, str]:
    config = yaml.safe_load((FOLDER / name).read_text())
    if "write_files" in config:
        return {one["path"]: one["content"] for one in config["write_files"]}
    return {one["path"]: one["contents"]["inline"] for one in config["storage"]["files"]}


@pytest.mark.parametrize("name", ["cloud-config.yaml", "flatcar.bu"])
def test_the_confdir_that_a_machine_gets_is_right(name, tmp_path, capfd):
    for path, content in files(name).items():
        target = tmp_path / Path(path).relative_to("/etc/confpy")
        target.parent.mkdir(exist_ok=True)
        target.write_text(content)
    code = cli.main(["check", "-confdir", str(tmp_path)])
    assert code == 0, capfd.readouterr().err


UNITS = {**units(), **{path.name: path.read_text() for path in (FOLDER.parent / "systemd").glob("web*.service")}}


@pytest.mark.parametrize("name", sorted(UNITS))
def test_systemd_finds_no_mistake_in_a_unit_without_what_is_for_fleet_alone(name, tmp_path):
    program, anything = shutil.which("systemd-analyze"), shutil.which("true")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    text = UNITS[name].partition("[X-Fleet]")[0]
    # Programs and other units that are not on this machine.
    text = re.sub(r"/(usr/bin|opt/confpy)/(docker|etcdctl|confpy)\b", str(anything), text)
    text = re.sub(r"^(After|Requires|Wants|BindsTo|PartOf|WantedBy)=.*\n", "", text, flags=re.MULTILINE)
    unit = tmp_path / name.replace("@.", "@8080.")
    unit.write_text(text)
    done = subprocess.run(
        [program, "verify", unit], check=False, capture_output=True, text=True, timeout=60, env={"LANG": "C"}
    )
    assert (done.returncode, done.stderr) == (0, "")
