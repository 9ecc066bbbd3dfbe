"""Containers as keys: what labels ask for, by which address a container is reached, what changes when one changes."""

from __future__ import annotations

import pytest

from confpy.errors import StoreError
from confpy.stores.docker.addressing import Reach
from confpy.stores.docker.containers import parse
from confpy.stores.docker.model import MOST_NOTES, Model, Rules
from confpy.stores.docker.own import find_own
from confpy.stores.docker.wire import Engine, chosen, event, listing, seconds
from tests.servers.engine import container

PUBLISHED = {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "0.0.0.0"}


def model(*items, **rules):
    made = Model(Rules(**rules))
    made.replace([parse(item) for item in items])
    return made


def services(*items, **rules):
    return {key: value for key, value in model(*items, **rules).keys.items() if not key.startswith("/containers/")}


def web(name="web1", number=1, **more):
    return container(name, number, **{"labels": {"confpy.service": "web", "confpy.port": "80"}, **more})


def said(*items, **rules):
    """What is logged of containers, by their names."""
    notes = model(*items, **rules).take_notes()
    assert all(note.event == "container.left_out" for note in notes)
    return {note.fields["container"]: note.fields["error"] for note in notes}


def test_a_container_is_a_folder_of_keys():
    item = web(ports=[PUBLISHED, {**PUBLISHED, "IP": "::"}, 443], status="Up 2 hours (unhealthy)", created=1700000000)
    item["Labels"] = {"com.example/a.b": "x", "100%": ""}
    assert model(item).keys == {
        "/containers/web1/id": f"{1:064x}",
        "/containers/web1/image": "web:1",
        "/containers/web1/state": "running",
        "/containers/web1/health": "unhealthy",
        "/containers/web1/created": "1700000000",
        "/containers/web1/labels/com.example%2Fa.b": "x",
        "/containers/web1/labels/100%25": "",
        "/containers/web1/networks/bridge/ip": "172.17.0.3",
        "/containers/web1/ports/80/tcp": "8080",
        "/containers/web1/ports/80/tcp/0.0.0.0": "8080",
        "/containers/web1/ports/80/tcp/::": "8080",
        "/containers/web1/ports/443/tcp": "",
    }


def test_what_podman_leaves_out_or_writes_as_null_is_no_error():
    item = {"Id": "a", "Names": ["/a"], "Ports": None, "Labels": None, "State": "running", "NetworkSettings": {}}
    assert model(item).keys["/containers/a/health"] == "none"


@pytest.mark.parametrize(
    ("labels", "ports", "expected"),
    [
        ({"confpy.service": "web", "confpy.port": "80"}, [], {"/web/c": "172.17.0.3:80"}),
        ({"confpy.service": "web"}, [8080, {"PrivatePort": 53, "Type": "udp"}], {"/web/c": "172.17.0.3:8080"}),
        ({"confpy.service": "web", "confpy.port": "80", "confpy.name": "w"}, [], {"/web/w": "172.17.0.3:80"}),
        ({"SERVICE_NAME": "web"}, [80], {"/web/c": "172.17.0.3:80"}),
        ({"SERVICE_NAME": "web"}, [80, 443], {"/web-80/c": "172.17.0.3:80", "/web-443/c": "172.17.0.3:443"}),
        ({"SERVICE_80_NAME": "a", "SERVICE_81_NAME": "b"}, [], {"/a/c": "172.17.0.3:80", "/b/c": "172.17.0.3:81"}),
        ({"SERVICE_NAME": "web", "SERVICE_443_IGNORE": "1"}, [80, 443], {"/web-80/c": "172.17.0.3:80"}),
        ({"SERVICE_NAME": "web", "SERVICE_ID": "w"}, [80], {"/web/w": "172.17.0.3:80"}),
        ({"SERVICE_NAME": "web", "SERVICE_IGNORE": "yes"}, [80], {}),
        ({"confpy.service": ""}, [80], {}),
    ],
)
def test_labels_make_servers_of_services(labels, ports, expected):
    assert services(container("c", labels=labels, ports=ports)) == expected


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (
            {"confpy.service": "a/b", "confpy.port": "80"},
            "the service that its label confpy.service names is not a plain",
        ),
        (
            {"confpy.service": "..", "confpy.port": "80"},
            "the service that its label confpy.service names is not a plain",
        ),
        ({"confpy.service": "x" * 129, "confpy.port": "80"}, "the service that its label confpy.service names is not"),
        (
            {"confpy.service": "wéb", "confpy.port": "80"},
            "the service that its label confpy.service names is not a plain",
        ),
        ({"confpy.service": "containers", "confpy.port": "80"}, "is the folder of all containers"),
        ({"confpy.service": "web", "confpy.port": "80", "confpy.name": "a b"}, "the name that its labels give it"),
        ({"confpy.service": "web", "confpy.port": "0"}, "the port of its label confpy.port is none"),
        ({"confpy.service": "web", "confpy.port": "65536"}, "the port of its label confpy.port is none"),
        ({"confpy.service": "web", "confpy.port": "80\n"}, "the label confpy.port has a control character"),
        ({"confpy.service": "web", "confpy.port": "٨٠"}, "the port of its label confpy.port is none"),
        ({"confpy.service": "web", "confpy.port": ""}, "the port of its label confpy.port is none"),
        ({"SERVICE_70000_NAME": "web"}, "the port of its label SERVICE_70000_NAME is none"),
        ({"SERVICE_80_NAME": "a b"}, "the service that its label SERVICE_80_NAME names is not a plain segment"),
        ({"SERVICE_NAME": "web"}, "it exposes no port for its service"),
        ({"confpy.service": "web"}, "it exposes no port for its service"),
        ({"about": "two\nlines"}, "the label about has a control character"),
        ({"a\x1b[2Jb": ""}, "a label has a control character"),
        ({"about": "\x85"}, "the label about has a control character"),
    ],
)
def test_labels_that_are_no_segment_port_or_text_leave_out_that_container_alone(labels, reason):
    bad = container("bad", 2, labels=labels)
    assert reason in said(web(), bad)["bad"]
    assert not any("bad" in key for key in model(web(), bad).keys)
    assert services(web(), bad) == {"/web/web1": "172.17.0.3:80"}


def test_several_exposed_ports_need_one_to_be_named():
    assert "it exposes 2 ports" in said(container("c", labels={"confpy.service": "web"}, ports=[80, 81]))["c"]


@pytest.mark.parametrize("name", ["a b", "x" * 129, "wéb", ""])
def test_a_container_whose_name_is_no_segment_is_left_out(name):
    (error,) = said(container(name, 2), web()).values()
    assert error == "its name is not a plain segment"
    assert services(container(name, 2), web()) == {"/web/web1": "172.17.0.3:80"}


def test_a_label_of_one_container_is_logged_once_and_anew_when_the_container_is_another_one():
    bad = container("bad", labels={"confpy.service": "a/b"})
    made = model(bad)
    assert len(made.take_notes()) == 1
    made.replace([parse({**bad, "State": "paused"})])
    assert made.take_notes() == ()
    made.replace([])
    made.replace([parse({**bad, "Id": "f" * 64})])
    assert len(made.take_notes()) == 1


def test_hundreds_of_bad_containers_cost_a_bounded_number_of_lines():
    notes = model(
        *(container(f"c{n}", n, labels={"confpy.service": "a/b", "confpy.port": "1"}) for n in range(300))
    ).take_notes()
    assert len(notes) == MOST_NOTES + 1
    assert notes[-1].fields["containers"] == 300 - MOST_NOTES


def test_of_two_that_claim_a_key_the_older_has_it_and_it_goes_to_the_other_when_that_ends():
    labels = {"confpy.service": "web", "confpy.port": "80", "confpy.name": "one"}
    old, new = container("old", 1, labels=labels), container("new", 2, labels=labels)
    made = model(new)
    assert made.keys["/web/one"] == "172.17.0.4:80"
    made.replace([parse(new), parse(old)])
    assert made.keys["/web/one"] == "172.17.0.3:80"
    (note,) = made.take_notes()
    assert note.fields["container"] == "new"
    assert note.fields["error"] == "the key /web/one is that of the older container old"
    made.replace([parse(new), parse({**old, "State": "paused"})])
    assert made.keys["/web/one"] == "172.17.0.4:80"
    made.replace([parse(new), parse(old)])
    assert made.take_notes() == ()


def test_two_ports_of_one_container_in_one_service_need_names():
    item = container("c", labels={"SERVICE_80_NAME": "web", "SERVICE_81_NAME": "web"})
    assert services(item) == {"/web/c": "172.17.0.3:80"}
    assert said(item) == {"c": "two of its ports claim the key /web/c"}
    item["Labels"]["SERVICE_81_ID"] = "c-81"
    assert services(item) == {"/web/c": "172.17.0.3:80", "/web/c-81": "172.17.0.3:81"}


# --- health and state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ("healthy", {"none", "healthy"}),
        ("starting", {"none", "healthy", "starting"}),
        ("any", {"none", "healthy", "starting", "unhealthy"}),
    ],
)
def test_health_says_which_containers_are_servers_and_all_are_shown(health, expected):
    texts = {
        "none": "Up",
        "healthy": "Up (healthy)",
        "starting": "Up (health: starting)",
        "unhealthy": "Up (unhealthy)",
    }
    items = [web(name, number, status=text) for number, (name, text) in enumerate(texts.items())]
    keys = model(*items, health=health).keys
    assert {key.removeprefix("/web/") for key in keys if key.startswith("/web/")} == expected
    assert {keys[f"/containers/{name}/health"] for name in texts} == set(texts)


def test_a_newer_engine_has_a_field_for_health():
    item = {**web(), "Health": {"Status": "unhealthy", "FailingStreak": 3}}
    assert services(item) == {}


@pytest.mark.parametrize("state", ["paused", "restarting"])
def test_a_container_that_does_not_run_is_shown_with_its_state_and_is_no_server(state):
    assert services(web(state=state)) == {}
    assert model(web(state=state)).keys["/containers/web1/state"] == state


# --- addresses -------------------------------------------------------------------------------------------------------


def own(item):
    return {"is_own": lambda one: one.id == item["Id"], "inside": True}


def test_on_the_host_a_container_is_reached_on_the_first_network_by_name_on_which_it_has_an_address():
    assert services(web(networks={"z": "10.0.0.1", "b": "10.0.0.2", "a": ""})) == {"/web/web1": "10.0.0.2:80"}


def test_within_a_container_it_is_reached_on_a_network_that_both_share():
    proxy = container("proxy", 9, networks={"front": "10.1.0.9"})
    item = web(networks={"back": "10.0.0.2", "front": "10.1.0.2"})
    assert services(item, proxy, **own(proxy)) == {"/web/web1": "10.1.0.2:80"}
    alone = web("alone", 3, networks={"back": "10.0.0.3"})
    assert said(alone, proxy, **own(proxy)) == {"alone": "it shares no network with confpy's container"}
    assert "/containers/alone/state" in model(alone, proxy, **own(proxy)).keys


def test_all_are_reached_anew_when_confpys_own_container_changes_its_network():
    proxy = container("proxy", 9, networks={"front": "10.1.0.9"})
    item = web(networks={"back": "10.0.0.2", "front": "10.1.0.2"})
    made = model(item, proxy, **own(proxy))
    moved = parse(container("proxy", 9, networks={"back": "10.0.0.9"}))
    assert made.update([moved.id], {moved.id: moved})["/web/web1"] == "10.0.0.2:80"


def test_a_label_says_which_container_is_the_proxy_only_where_the_system_does_not():
    proxy = container("proxy", 9, networks={"front": "10.1.0.9"}, labels={"confpy.proxy": "true"})
    item = web(networks={"back": "10.0.0.2", "front": "10.1.0.2"})
    assert services(item, proxy, inside=True) == {"/web/web1": "10.1.0.2:80"}
    assert services(item, proxy) == {"/web/web1": "10.0.0.2:80"}
    real = container("real", 8, networks={"back": "10.0.0.8"})
    assert services(item, proxy, real, **own(real)) == {"/web/web1": "10.0.0.2:80"}


@pytest.mark.parametrize("by", ["setting", "label"])
def test_a_network_can_be_named(by):
    labels = {"confpy.service": "web", "confpy.port": "80"} | ({"confpy.network": "z"} if by == "label" else {})
    reach = Reach(network="z") if by == "setting" else Reach()
    item = web(networks={"a": "10.0.0.2", "z": "10.1.0.2"}, labels=labels)
    assert services(item, reach=reach) == {"/web/web1": "10.1.0.2:80"}
    other = web(networks={"a": "10.0.0.2"}, labels=labels)
    assert said(other, reach=reach) == {"web1": "it has no address on the network 'z'"}


def test_an_address_of_ipv6_is_in_brackets():
    item = web(networks={"six": ""})
    item["NetworkSettings"]["Networks"]["six"]["GlobalIPv6Address"] = "fd00::2"
    assert services(item) == {"/web/web1": "[fd00::2]:80"}
    assert model(item).keys["/containers/web1/networks/six/ip"] == "fd00::2"


def test_in_host_mode_it_is_reached_on_the_engines_machine():
    item = web(mode="host", networks={"host": ""})
    assert services(item) == {"/web/web1": "127.0.0.1:80"}
    assert services(item, reach=Reach(host="192.0.2.1")) == {"/web/web1": "192.0.2.1:80"}
    proxy = container("proxy", 9)
    assert services(item, proxy, **own(proxy)) == {"/web/web1": "172.17.0.1:80"}


def test_what_uses_the_network_of_another_container_is_reached_there():
    pod = container("pod", 2, networks={"bridge": "10.0.0.7"})
    item = web(mode=f"container:{pod['Id']}", networks={})
    made = model(item, pod)
    assert made.keys["/web/web1"] == "10.0.0.7:80"
    moved = parse(container("pod", 2, networks={"bridge": "10.0.0.8"}))
    assert made.update([moved.id], {moved.id: moved})["/web/web1"] == "10.0.0.8:80"
    assert made.update([moved.id], {})["/web/web1"] is None
    assert [note.fields["error"] for note in made.take_notes()] == ["the container whose network it uses is not there"]


def test_published_ports_are_used_where_that_is_wanted_and_where_a_container_has_no_address():
    item = web(ports=[PUBLISHED])
    assert services(item, reach=Reach(published=True)) == {"/web/web1": "127.0.0.1:8080"}
    assert services(item, reach=Reach(published=True, host="192.0.2.1")) == {"/web/web1": "192.0.2.1:8080"}
    bound = web(ports=[{**PUBLISHED, "IP": "192.0.2.9"}])
    assert services(bound, reach=Reach(published=True)) == {"/web/web1": "192.0.2.9:8080"}
    assert said(web(), reach=Reach(published=True)) == {"web1": "its port 80 is not published"}
    rootless = web(networks={}, mode="slirp4netns", ports=[PUBLISHED])
    assert services(rootless) == {"/web/web1": "127.0.0.1:8080"}
    assert said(web(networks={}, mode="none")) == {"web1": "it has no address on any network"}


# --- changes ---------------------------------------------------------------------------------------------------------


def test_a_change_says_what_it_changes_and_nothing_else():
    made = model(web(), web("web2", 2))
    assert made.replace([parse(web()), parse(web("web2", 2))]) == {}
    paused = parse(web(state="paused"))
    assert made.update([paused.id], {paused.id: paused}) == {"/containers/web1/state": "paused", "/web/web1": None}
    ended = made.update([paused.id], {})
    assert set(ended.values()) == {None}
    assert all(key.startswith("/containers/web1/") for key in ended)


def test_a_renamed_container_moves():
    made = model(web())
    renamed = parse(web("web9"))
    diff = made.update([renamed.id], {renamed.id: renamed})
    assert (diff["/web/web1"], diff["/web/web9"]) == (None, "172.17.0.3:80")


def test_nothing_of_a_container_that_ended_is_held():
    made = model(web(), container("bad", 2, labels={"a": "\n"}))
    made.take_notes()
    made.replace([])
    assert not any((made.keys, made.containers, made._claims, made._made, made._said, made._by_name))


# --- confpy's own container ------------------------------------------------------------------------------------------

ID = "ab12" * 16


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("mountinfo", f"1 2 0:3 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"),
        ("mountinfo", f"1 2 0:3 /overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"),
        ("cgroup", f"0::/system.slice/docker-{ID}.scope\n"),
        ("cgroup", f"12:devices:/docker/{ID}\n"),
        ("cgroup", f"0::/machine.slice/libpod-{ID}.scope/container\n"),
    ],
)
def test_confpys_own_container_is_found_by_what_the_system_says(root, file, content):
    (root / "proc" / "self" / file).write_text(content)
    is_own, inside = find_own(str(root), "elsewhere")
    assert inside
    assert is_own(parse(container("me", id=ID)))
    assert not is_own(parse(container("other", 2)))


def test_it_is_found_by_its_host_name_where_the_system_says_nothing(root):
    (root / "run").mkdir()
    (root / "run" / ".containerenv").touch()
    is_own, inside = find_own(str(root), ID[:12])
    assert inside
    assert is_own(parse(container("me", id=ID)))


def test_on_the_host_no_container_is_confpys_own_whatever_is_mounted_there(root):
    mounts = f"1 2 0:3 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n"
    (root / "proc" / "self" / "mountinfo").write_text(mounts)
    (root / "proc" / "self" / "cgroup").write_text("0::/user.slice/session-1.scope\n")
    is_own, inside = find_own(str(root), ID[:12])
    assert not inside
    assert not is_own(parse(container("x", id=ID)))


# --- the wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "spoken"),
    [("1.41", "1.41"), ("1.9", "1.9"), ("1.52", "1.52"), ("1.77", "1.52"), ("2.1", "1.52"), ("", "")],
)
def test_the_version_is_the_lower_one_of_both(newest, spoken):
    assert chosen(newest) == spoken


def test_podman_is_asked_for_paused_containers_by_name():
    assert listing(Engine("1.41"), None) == "/v1.41/containers/json"
    assert "paused" in listing(Engine("1.41", podman=True), ["a"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b'{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"a"},"timeNano":5}',
            ("a", "health_status"),
        ),
        (
            b'{"Type":"network","Action":"connect","Actor":{"ID":"net","Attributes":{"container":"a"}}}',
            ("a", "connect"),
        ),
        (b'{"status":"connect","id":"a","Type":"network","Action":"connect","Actor":{"ID":"a"}}', ("a", "connect")),
        (b'{"status":"start","id":"a"}', ("a", "start")),
        (b'{"Type":"image","Action":"pull","Actor":{"ID":"i"}}', None),
    ],
)
def test_an_event_is_about_a_container(line, expected):
    found = event(line)
    assert (found and found[:2]) == expected


@pytest.mark.parametrize("line", [b"[]", b"no", b'{"Actor":3}', b'{"timeNano":"x","id":"a"}'])
def test_what_is_no_event_is_an_error_and_no_traceback(line):
    with pytest.raises(StoreError):
        event(line)


def test_a_date_is_read():
    assert seconds("Sun, 29 Nov 2026 10:53:02 GMT") == 1795949582.0
    assert seconds("tomorrow") is None
    assert seconds("Sun, 29 Nom 2026 10:53:02 GMT") is None
