"""The manifests of ``confpy init``, run by a real Docker Compose and, as the kubelet would, by a real Docker."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from confpy.commands.init_files import fill
from tests.e2e.running import ROOT
from tests.run_as_user import needs
from tests.servers.confpy_images import CONFPY_VOLUMES, import_confpy, import_etcd, import_haproxy
from tests.servers.docker import Docker, busybox_root
from tests.servers.etcd import Etcd
from tests.servers.traffic import ask
from tests.servers.web import Backend
from tests.unit.test_deployments import objects
from tests.waiting import wait_until

COMPOSE = ROOT / ".cache" / "compose" / "docker-compose"
PROJECT = "shop"


@pytest.fixture(scope="module")
def images(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    """The engine, with the images that the manifests name."""
    folder = tmp_path_factory.mktemp("images")
    import_confpy(docker, "confpy", folder / "confpy")
    import_haproxy(docker, "haproxy:3.2", folder / "haproxy")
    import_etcd(docker, f"{PROJECT}-etcd", folder / "etcd")
    docker.import_image("busybox:1.37", busybox_root(folder / "busybox"))
    return docker


def write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def get(engine: Docker, port: int, path: str = "/") -> tuple[int, str]:
    status, body = ask(port, address=engine.address, path=path)
    return status, body.strip()


def complaints(engine: Docker, container: str) -> list[str]:
    """Return the warnings and errors of a confpy's log."""
    lines = engine.call("logs", container).stderr.splitlines()
    return [line for line in lines if " warning " in line or " error " in line]


# --- Compose ---------------------------------------------------------------------------------------------------------


class Project:
    """What ``confpy init compose`` wrote, on Docker Compose."""

    def __init__(self, engine: Docker, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        write(fill("compose", {"name": PROJECT}, {}), folder)
        ours = {"volumes": CONFPY_VOLUMES}
        (folder / "test.yaml").write_text(
            yaml.safe_dump({"services": dict.fromkeys(("confpy", "render", "web-1", "web-2"), ours)})
        )

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        files = ["--project-directory", str(self._folder), "-f", str(self._folder / "compose.yaml")]
        ended = subprocess.run(
            [COMPOSE, *files, "-f", str(self._folder / "test.yaml"), *words],
            env={**os.environ, **self.engine.environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert ended.returncode == 0 or not check, f"compose {' '.join(words)}: {ended.stderr}{ended.stdout}"
        return ended

    def exec(self, service: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.compose("exec", "--no-TTY", service, *words, check=check)

    def etcdctl(self, *words: str) -> str:
        return self.exec("etcd", "etcdctl", *words).stdout

    def backends(self) -> set[str]:
        config = self.exec("haproxy", "cat", "/etc/haproxy/haproxy.cfg").stdout
        return {line.split()[1] for line in config.splitlines() if line.strip().startswith("server ")}


@pytest.fixture
def project(images: Docker, tmp_path: Path) -> Iterator[Project]:
    needs("" if COMPOSE.exists() else "Docker Compose is not here: scripts/test downloads it")
    project = Project(images, tmp_path)
    try:
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout=1")


@pytest.mark.parametrize("flags", [{}, {"nodes": "https://a.infra:2379", "prefix": "/production/shop"}])
def test_compose_takes_what_was_written_as_it_stands(flags, docker, tmp_path):
    needs("" if COMPOSE.exists() else "Docker Compose is not here: scripts/test downloads it")
    project = Project(docker, tmp_path)
    write(fill("compose", {"name": "shop-2", "image": "example.org:5000/confpy:1"}, flags), tmp_path)
    shown = yaml.safe_load(project.compose("config").stdout)
    assert shown["name"] == "shop-2"
    assert ("etcd" in shown["services"]) == (not flags)
    broken = (tmp_path / "compose.yaml").read_text().replace("read_only:", "readonly:")
    (tmp_path / "compose.yaml").write_text(broken)
    refused = project.compose("config", "--quiet", check=False)
    assert refused.returncode
    assert "readonly" in refused.stderr


def test_compose_runs_what_was_written_and_traffic_goes_to_the_containers_that_are_registered(project):
    project.compose("config", "--quiet")
    project.compose("up", "--no-build", "--detach")
    wait_until(lambda: project.backends() == {"web-1", "web-2"}, what="both containers are registered")
    hosts = {project.exec(web, "hostname").stdout.strip() for web in ("web-1", "web-2")}
    seen: set[tuple[int, str]] = set()

    def both() -> bool:
        seen.add(get(project.engine, 8080))
        return {body for _, body in seen} >= hosts

    wait_until(both, what="both containers answer")
    haproxy = project.compose("ps", "--quiet", "haproxy").stdout.strip()
    project.compose("stop", "web-1")
    wait_until(lambda: project.backends() == {"web-2"}, what="the one that was stopped is gone")
    left = json.loads(project.etcdctl("get", "--prefix", "/services/shop/backends/", "--write-out=json"))["kvs"]
    assert [one["lease"] > 0 for one in left] == [True]

    # HAProxy rejects a setting: the file from before is back, traffic goes on, and confpy says that it is not well.
    project.exec("confpy", "confpy", "status")
    project.etcdctl("put", "/services/shop/maxconn", "abc")
    status = wait_until(
        lambda: (done := project.exec("confpy", "confpy", "status", check=False)).returncode == 11 and done.stdout,
        what="confpy is not well",
    )
    assert "haproxy" in status
    assert project.backends() == {"web-2"}
    assert get(project.engine, 8080)[0] == 200
    project.etcdctl("put", "/services/shop/maxconn", "300")
    wait_until(lambda: project.exec("confpy", "confpy", "status", check=False).returncode == 0, what="it is well")
    inspected = json.loads(project.engine.call("inspect", haproxy).stdout)[0]
    assert (inspected["RestartCount"], inspected["State"]["Running"]) == (0, True)


# --- Kubernetes ------------------------------------------------------------------------------------------------------


class Pod:
    """The pod of a Deployment: its containers share the network of one that sleeps, and the folders of its volumes."""

    def __init__(self, engine: Docker, manifests: Mapping[str, bytes], folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        made = list(objects(manifests))
        (deployment,) = [one for one in made if one["kind"] == "Deployment"]
        self._spec = deployment["spec"]["template"]["spec"]
        maps = {one["metadata"]["name"]: one["data"] for one in made if one["kind"] == "ConfigMap"}
        user = self._spec["securityContext"]
        for volume in self._spec["volumes"]:
            path = folder / volume["name"]
            path.mkdir()
            if "configMap" in volume:
                self.set_config_map(volume["name"], maps[volume["configMap"]["name"]])
            else:
                os.chown(path, 0, user["fsGroup"])
                path.chmod(0o2775)
        ports = [port["containerPort"] for one in self._spec["containers"] for port in one.get("ports", ())]
        publish = [f"--publish={engine.address}:{port}:{port}" for port in ports]
        engine.call("run", "--detach", "--name=pod", *publish, "busybox:1.37", "sleep", "1000")

    def set_config_map(self, volume: str, data: Mapping[str, str]) -> None:
        """Write the files of a ConfigMap as the kubelet does: names that lead through a link, which is exchanged."""
        path = self._folder / volume
        version = path / f"..{len(list(path.iterdir()))}"
        version.mkdir()
        for name, text in data.items():
            (version / name).write_text(text)
            if not (path / name).is_symlink():
                (path / name).symlink_to(f"..data/{name}")
        (path / "..data_tmp").symlink_to(version.name)
        (path / "..data_tmp").rename(path / "..data")

    def start(self) -> None:
        """Run the init containers to their end, one after another, and start the others."""
        for container in self._spec["initContainers"]:
            self._run(container, "--rm")
        for container in self._spec["containers"]:
            self._run(container, "--detach", f"--name={container['name']}")

    def _run(self, container: Mapping[str, Any], *words: str) -> None:
        user, security = self._spec["securityContext"], container["securityContext"]
        program, *arguments = [*container.get("command", ["confpy"]), *container.get("args", ())]
        flags = [
            *words, "--network=container:pod", f"--user={user['runAsUser']}:{user['runAsGroup']}",
            f"--group-add={user['fsGroup']}", *(f"--cap-drop={one}" for one in security["capabilities"]["drop"]),
            "--security-opt=no-new-privileges", f"--memory={container['resources']['limits']['memory'].rstrip('i')}",
            f"--entrypoint={program}",
        ]  # fmt: skip
        flags += ["--read-only"] if security["readOnlyRootFilesystem"] else []
        for mount in container["volumeMounts"]:
            mode = ":ro" if mount.get("readOnly") else ""
            flags.append(f"--volume={self._folder / mount['name']}:{mount['mountPath']}{mode}")
        if container["image"] == "confpy":
            flags += [f"--volume={volume}" for volume in CONFPY_VOLUMES]
        self.engine.call("run", *flags, container["image"], *arguments)

    def probes(self) -> dict[tuple[str, str], int]:
        """Return what each probe of each container is answered."""
        found = {}
        for container in self._spec["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("readinessProbe", "livenessProbe"):
                asks = container[probe]["httpGet"]
                found[container["name"], probe] = get(self.engine, ports[asks["port"]], asks["path"])[0]
        return found

    def remove(self) -> None:
        names = [container["name"] for container in self._spec["containers"]]
        self.engine.call("rm", "--force", *names, "pod", check=False)


@pytest.fixture
def pod(images: Docker, etcd: Etcd, tmp_path: Path) -> Iterator[Pod]:
    """A pod whose confpy follows the test's etcd."""
    manifests = fill("k8s", {"name": "shop"}, {"nodes": f"http://{images.relay(etcd.port)}"})
    pod = Pod(images, manifests, tmp_path)
    try:
        yield pod
    finally:
        pod.remove()


def test_the_pod_renders_serves_is_probed_and_follows_keys_and_config_maps(pod, etcd, tmp_path):
    with Backend("a") as a:
        etcd.put("/services/shop/backends/a", pod.engine.relay(int(a.address.rpartition(":")[2])))
        pod.start()
        wait_until(lambda: set(pod.probes().values()) == {200}, what="all probes succeed")
        wait_until(lambda: get(pod.engine, 8080) == (200, "a"), what="the backend answers")
        etcd.delete("/services/shop/backends/a")
        wait_until(lambda: get(pod.engine, 8080)[0] == 503, what="the backend is gone")
    # An edit of the ConfigMap is followed without a new pod.
    template = (tmp_path / "templates" / "haproxy.cfg.j2").read_text()
    assert "bind :8404" in template
    moved = template.replace("balance roundrobin", "balance leastconn")
    pod.set_config_map("templates", {"haproxy.cfg.j2": moved})
    config = tmp_path / "config" / "haproxy.cfg"
    wait_until(lambda: "leastconn" in config.read_text(), what="the new template is delivered")
    wait_until(lambda: "reloaded=true" in pod.engine.call("logs", "confpy").stderr.splitlines()[-1], what="it reloads")
    assert set(pod.probes().values()) == {200}
    # The rights and volumes suffice: nothing is missed, and the end is in time.
    assert complaints(pod.engine, "confpy") == []
    pod.engine.call("stop", "--time=10", "confpy")
    assert pod.engine.call("inspect", "--format={{.State.ExitCode}}", "confpy").stdout.strip() == "0"
