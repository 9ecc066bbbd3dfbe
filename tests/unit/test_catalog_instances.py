"""What Consul says about a service, as keys: names, statuses, addresses, and what somebody may have registered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.keys.prefixes import normalise
from confpy.stores.answers import UNEXPECTED
from confpy.stores.catalog.instances import Choice, can_be_asked, folded, name_of, parse_service, segment


def instance(name="w1", *, node="n1", port=80, created=5, checks=(), **more):
    """What Consul says of one; ``checks``: check → status."""
    service = {"ID": name, "Port": port, "CreateIndex": created, "ModifyIndex": created, **more}
    said = [{"Node": node, "CheckID": check, "Status": status} for check, status in dict(checks).items()]
    return {"Node": {"Node": node, "Address": "10.0.0.9", "Datacenter": "dc1"}, "Service": service, "Checks": said}


def service(*instances, name="web", **choice):
    return parse_service(name, 7, json.dumps(instances).encode(), Choice(**choice))


def test_an_instance_is_a_key_whose_value_says_all_that_a_template_needs_in_one_order():
    said = instance(
        Address="10.0.0.1", Tags=["b", "a"], Meta={"z": "1", "a": "2"}, Weights={"Passing": 3, "Warning": 1}
    )
    assert service(said).keys == {
        "/web/w1": '{"address":"10.0.0.1","port":80,"tags":["b","a"],"meta":{"a":"2","z":"1"},"node":"n1",'
        '"datacenter":"dc1","weights":{"passing":3,"warning":1},"status":"passing"}'
    }


@pytest.mark.parametrize(
    ("more", "value"),
    [
        ({"Address": "10.0.0.1"}, "10.0.0.1:80"),
        ({"Address": ""}, "10.0.0.9:80"),
        ({"Address": "fd00::1"}, "[fd00::1]:80"),
        ({"Address": "web-1.example_x.com", "port": 65535}, "web-1.example_x.com:65535"),
    ],
)
def test_an_address_is_that_of_the_service_else_of_its_node_with_ipv6_in_brackets(more, value):
    assert service(instance(**more), value="address").keys == {"/web/w1": value}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"Address": "10.0.0.1\n  server evil 6.6.6.6"}, "address"),
        ({"Address": "10.0.0.1 backup"}, "address"),
        ({"Address": "unix:///run/web.sock"}, "address"),
        ({"Address": "x" * 254}, "address"),
        ({"port": 65536}, "port is 65536"),
        ({"port": -1}, "port is -1"),
        ({"port": 0}, "port is 0"),
    ],
)
def test_an_instance_without_a_usable_address_is_left_out_alone_and_says_why(more, why):
    found = service(instance("bad", **more), instance("good"), value="address")
    assert set(found.keys) == {"/web/good"}
    (said,) = found.left_out
    assert said[0] == "bad"
    assert why in said[1]


def test_a_port_may_be_missing_where_the_value_says_more():
    assert json.loads(service(instance(port=0)).keys["/web/w1"])["port"] == 0


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ({}, "passing"),
        ({"serfHealth": "passing", "c": "passing"}, "passing"),
        ({"a": "passing", "b": "warning"}, "warning"),
        ({"a": "warning", "b": "critical"}, "critical"),
        ({"a": "unheard of"}, "critical"),
        ({"_node_maintenance": "critical"}, "maintenance"),
        ({"_service_maintenance:w1": "critical", "b": "critical"}, "maintenance"),
    ],
)
def test_an_instance_has_the_worst_status_of_its_checks(checks, status):
    found = service(instance(checks=checks), status="any")
    assert json.loads(found.keys["/web/w1"])["status"] == status
    chosen = {
        choice for choice in ("passing", "warning", "any") if service(instance(checks=checks), status=choice).keys
    }
    assert chosen == {"passing": {"passing", "warning", "any"}, "warning": {"warning", "any"}}.get(status, {"any"})


def test_all_wanted_tags_must_be_there_in_any_case():
    said = instance(Tags=["Prod", "v2"])
    assert service(said, tags=folded(["prod", "V2"])).keys
    assert not service(said, tags=folded(["prod", "v3"])).keys
    assert service(instance(Tags=None), tags=folded([])).keys


def test_of_two_instances_with_one_id_the_older_has_the_key_and_no_key_changes_when_either_is_unwell():
    old = instance(node="n2", created=3, Address="10.0.0.2")
    new = instance(node="n1", created=4, Address="10.0.0.1")
    both = {"/web/w1": "10.0.0.2:80", "/web/w1@n1": "10.0.0.1:80"}
    assert service(new, old, value="address").keys == both
    unwell = instance(node="n2", created=3, Address="10.0.0.2", checks={"c": "critical"})
    assert service(new, unwell, value="address").keys == {"/web/w1@n1": "10.0.0.1:80"}


def test_an_instance_without_any_key_of_its_own_is_left_out():
    found = service(
        instance("x", node="n1", created=1),
        instance("x@n2", node="n1", created=2),
        instance("x", node="n2", created=3),
        instance("", node="n1"),
        instance("y" * 600, node="n1"),
    )
    assert set(found.keys) == {"/web/x", "/web/x@n2"}
    assert [one for one, _ in found.left_out] == ["x", "", "y" * 600]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("web", "web"),
        ("host:web-1:80", "host:web-1:80"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        (".hidden", ".hidden"),
        ("100%", "100%25"),
        ("a\nb", "a%0Ab"),
        ("a\0\u2028", "a%00%E2%80%A8"),
        ("a b\\", "a b\\"),
        ("żółw", "żółw"),
    ],
)
def test_names_and_ids_become_one_plain_segment(name, part):
    assert segment(name) == part
    assert name_of(part) == name


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_name_leaves_its_segment_and_no_two_share_one(one, other):
    one, other = (text.encode("utf-8", "replace").decode() for text in (one, other))
    assert normalise(f"/{segment(one)}/x") == f"/{segment(one)}/x"
    assert (segment(one) == segment(other)) == (one == other)
    assert name_of(segment(one)) == one


def test_a_segment_that_no_name_makes_stands_for_none():
    assert name_of("a%2fb") is None
    assert name_of("%61") is None
    assert name_of("") is None


def test_consul_is_not_asked_about_names_that_a_url_cannot_hold():
    assert can_be_asked("a/b")
    assert not any(map(can_be_asked, ("", ".", "..", "a\nb", "x" * 600)))


@pytest.mark.parametrize("body", ["{}x", "[1]", '[{"Node":1,"Service":{},"Checks":[]}]', "null", '[{"Checks":null}]'])
def test_what_consul_would_not_say_is_no_answer(body):
    with pytest.raises(UNEXPECTED):
        parse_service("web", 7, body.encode(), Choice())


def test_text_that_is_none_does_no_harm():
    found = parse_service("web", 7, json.dumps([instance(Meta={"a": "\ud800"})]).encode(), Choice())
    found.keys["/web/w1"].encode()
