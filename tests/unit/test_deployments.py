"""What ``confpy init k8s|compose|systemd`` writes fits the published schemas, and together.

The examples are made by it: ``python -m tests.unit.test_deployments`` writes those of ``examples/kubernetes``,
``examples/compose`` and ``examples/systemd`` anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from confpy import cli
from confpy.commands import init_files
from confpy.commands.init_files import KINDS, fill
from confpy.errors import UsageError
from tests import unit_files
from tests.run_as_user import needs
from tests.unit.json_schema import mismatches

ROOT = Path(__file__).parents[2]
EXAMPLES = {"k8s": "kubernetes", "compose": "compose", "systemd": "systemd"}
SCHEMAS = ROOT / ".cache" / "kubernetes"
OWN = {"name": "shop-2", "image": "example.org:5000/team/confpy:1.0"}
STORE = {"nodes": "https://a.infra:2379,https://b.infra:2379", "prefix": "production/shop"}
COMMANDS = ("-backend", "etcdv3", "-node", "https://a.infra:2379,https://b.infra:2379")


def written(kind: str) -> dict[str, bytes]:
    """Return the files of an example: of the units, those that need no user's data."""
    files = fill(kind, {}, {})
    return {name: text for name, text in files.items() if kind != "systemd" or name.endswith("@.service")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_are_what_the_command_writes(kind):
    folder = ROOT / "examples" / EXAMPLES[kind]
    for name, content in written(kind).items():
        assert (folder / name).read_bytes() == content, f"{name}: python -m tests.unit.test_deployments writes it anew"
    if kind == "systemd":
        link = os.readlink(folder / "confpy.service")
        assert link == "../../confpy/deployments/systemd/confpy.service"


@pytest.mark.parametrize("options", [{}, OWN], ids=["defaults", "own names"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_checked_and_tested_without_a_mistake(kind, options, tmp_path, capfd):
    words = [f"-{name}={text}" for name, text in options.items()]
    words += ["-node", STORE["nodes"], "-prefix", STORE["prefix"]] if options else []
    assert cli.main(["init", kind, str(tmp_path / "made"), *words]) == 0
    paths = [line.removeprefix("wrote ") for line in capfd.readouterr().out.splitlines() if line.startswith("wrote ")]
    for path in paths:
        text = Path(path).read_text()
        assert init_files.PLACEHOLDER.search(text) is None, path
        assert "own store" not in text
        assert not options or "services/web" not in text, path
    confdir = str(tmp_path / "made" / "confpy")
    assert cli.main(["check", confdir]) == 0, capfd.readouterr().err
    if kind != "systemd":
        assert cli.main(["test", confdir]) == 0, capfd.readouterr().out
    # Nothing is overwritten, and no other file is written then.
    Path(paths[0]).write_text("mine")
    for path in paths[1:]:
        Path(path).unlink()
    assert cli.main(["init", kind, str(tmp_path / "made"), *words]) == 2
    assert Path(paths[0]).read_text() == "mine"
    assert not any(Path(path).exists() for path in paths[1:])


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"name": "Web"}, {}), ({"name": "no"}, {}),
        ({"name": "web\nkind: Pod"}, {}), ({"name": "-web"}, {}), ({"name": "a" * 64}, {}),
        ({"image": "confpy\nprivileged: true"}, {}), ({"image": 'a"b'}, {}), ({"image": "--privileged"}, {}),
        ({"image": "$(id)"}, {}), ({}, {"nodes": 'http://a", "-exec", "sh'}), ({}, {"nodes": "http://user:pw@a:1"}),
        ({}, {"nodes": "http://a:1 -exec sh"}), ({}, {"prefix": "/a b"}), ({}, {"prefix": "/a%i"}),
        ({}, {"prefix": "/a';reboot;'"}), ({}, {"backend": "etcd v3"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_names_that_would_mean_something_else_in_a_file_are_refused(kind, options, flags):
    with pytest.raises(UsageError, match="cannot be used in the files"):
        fill(kind, options, flags)


def test_flags_of_a_platform_are_refused_for_a_program_and_a_platform_that_is_not_there_is_said(tmp_path, capfd):
    assert cli.main(["init", "nginx", str(tmp_path), "-image", "a"]) == 2
    assert "-image is for k8s, compose, systemd" in capfd.readouterr().err
    assert cli.main(["init", "nomad", str(tmp_path)]) == 2
    assert "apache, haproxy, nginx, k8s, compose, systemd" in capfd.readouterr().err
    with pytest.raises(UsageError, match="etcd v3"):
        fill("compose", {}, {"backend": "consul"})


# --- Kubernetes ------------------------------------------------------------------------------------------------------


def objects(files: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """Yield what ``kubectl apply -k`` makes of the files."""
    kustomization = yaml.safe_load(files["kustomization.yaml"])
    assert set(kustomization) == {"apiVersion", "kind", "resources", "configMapGenerator", "generatorOptions"}
    for name in kustomization["resources"]:
        yield from yaml.safe_load_all(files[name])
    for one in kustomization["configMapGenerator"]:
        data = {path.rpartition("/")[2]: files[path].decode() for path in one["files"]}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]}, "data": data}


MADE = {
    "defaults": fill("k8s", {}, {}),
    "own names": fill("k8s", OWN, STORE),
}


def made(kind: str, name: str = "defaults") -> dict[str, Any]:
    (found,) = [one for one in objects(MADE[name]) if one["kind"] == kind]
    return found


def schemas() -> list[str]:
    return sorted(folder.name for folder in SCHEMAS.glob("1.*")) or ["none"]


@pytest.mark.parametrize("version", schemas())
@pytest.mark.parametrize("name", MADE)
def test_each_object_fits_the_strict_schema_of_kubernetes(name, version):
    needs("" if version != "none" else "the schemas of Kubernetes are not here: scripts/test downloads them")
    definitions = json.loads((SCHEMAS / version / "_definitions.json").read_text())["$defs"]
    for one in objects(MADE[name]):
        kind = "-".join([one["kind"].lower(), *one["apiVersion"].split("/")]) + ".json"
        schema = with_definitions(json.loads((SCHEMAS / version / kind).read_text()), definitions)
        assert mismatches(one, schema, kind) == []
        assert mismatches({**one, "unknown": 1}, schema, kind) == [f"{kind}.unknown is not known"]
        if one["kind"] == "Deployment":
            wrong = json.loads(json.dumps(one).replace("runAsNonRoot", "runAsNoRoot"))
            assert mismatches(wrong, schema, kind) == [
                f"{kind}.spec.template.spec.securityContext.runAsNoRoot is not known"
            ]


def with_definitions(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [with_definitions(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return with_definitions(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {word: with_definitions(one, definitions) for word, one in schema.items()}


def test_kustomize_makes_the_same_of_the_files(tmp_path):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    for path, content in MADE["own names"].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    done = subprocess.run([kubectl, "kustomize", tmp_path], check=True, capture_output=True, timeout=60)
    kustomized = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    assert kustomized == {(one["kind"], one["metadata"]["name"]): one for one in objects(MADE["own names"])}


@pytest.mark.parametrize("name", MADE)
def test_the_pod_may_do_nothing_that_it_need_not_and_its_parts_fit_together(name):
    pod = made("Deployment", name)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["terminationGracePeriodSeconds"] > 30
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    used = set()
    for container in [*pod["initContainers"], *pod["containers"]]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        used |= {mount["name"] for mount in container["volumeMounts"]}
        ports = {port["name"] for port in container.get("ports", ())}
        assert {container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")} <= ports
    assert used == set(volumes)
    config_maps = {one["metadata"]["name"] for one in objects(MADE[name]) if one["kind"] == "ConfigMap"}
    assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} == config_maps
    labels = made("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    selector = made("Deployment", name)["spec"]["selector"]["matchLabels"]
    assert made("Service", name)["spec"]["selector"].items() <= labels.items() >= selector.items()


def test_confpy_renders_first_without_reloads_and_is_probed_where_it_answers():
    pod = made("Deployment", "own names")["spec"]["template"]["spec"]
    (render,) = pod["initContainers"]
    assert {"-onetime", "-no-reload", "-retry-for"} <= set(render["args"])
    (confpy,) = [one for one in pod["containers"] if one["name"] == "confpy"]
    assert confpy["image"] == render["image"] == OWN["image"]
    assert tuple(render["args"][-4:]) == tuple(confpy["args"][-4:]) == COMMANDS
    assert confpy["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "status"}
    assert confpy["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "status"}
    assert [port["containerPort"] for port in confpy["ports"]] == [9100]
    assert confpy["args"][confpy["args"].index("-status-addr") + 1] == ":9100"


# --- Compose and systemd ---------------------------------------------------------------------------------------------


def test_with_a_store_elsewhere_compose_starts_none():
    own = yaml.safe_load(fill("compose", {}, {})["compose.yaml"])
    other = yaml.safe_load(fill("compose", OWN, STORE)["compose.yaml"])
    assert set(own["services"]) - set(other["services"]) == {"etcd"}
    assert set(own["volumes"]) - set(other["volumes"]) == {"data"}
    assert "etcd:" not in fill("compose", OWN, STORE)["compose.yaml"].decode()
    assert other["name"] == "shop-2"
    assert tuple(other["services"]["confpy"]["command"][-4:]) == COMMANDS
    assert other["services"]["web-2"]["environment"]["ETCD"] == "https://a.infra:2379"
    assert other["services"]["web-2"]["environment"]["KEY"] == "/production/shop/backends/web-2"


def test_units_have_the_names_and_keys_of_the_user():
    files = fill("systemd", OWN, STORE)
    units = {name for name in files if name.endswith(".service")}
    assert units == {"confpy.service", "shop-2@.service", "shop-2-register@.service"}
    service = unit_files.read(files["shop-2@.service"].decode())["Service"]
    assert ("EnvironmentFile", "/etc/default/shop-2") in service
    assert "confpy register /production/shop/backends/shop-2-%i ${ADDRESS}:%i " in dict(service)["ExecStart"]
    variables = unit_files.environment_file(files["shop-2.default"].decode())
    assert variables["IMAGE"] == OWN["image"]
    assert variables["ETCDCTL_ENDPOINTS"] == STORE["nodes"]
    assert b'nodes = ["https://a.infra:2379", "https://b.infra:2379"]' in files["confpy/confpy.toml"]


def _write_examples() -> None:
    for kind, folder in EXAMPLES.items():
        for name, content in written(kind).items():
            path = ROOT / "examples" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    _write_examples()
