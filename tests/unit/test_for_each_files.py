"""``for_each`` in resource files: what it reads, and what does not go together with it."""

from __future__ import annotations

import pytest

from confpy.config.settings import Settings
from confpy.frozen import replace
from tests.unit.test_resource_files import confd, load, write  # noqa: F401  # confd is a fixture

LINES = 'src = "v.j2"\ndest = "/etc/nginx/conf.d/{{ name }}.conf"\nfor_each = "/vhosts/*"\n'


def load_one(folder, text, settings=None):
    write(folder, "v.toml", f"[template]\n{text}")
    return load(folder, settings)


def test_without_keys_it_reads_what_stands_before_the_wildcard(confd):  # noqa: F811
    (resource,) = load_one(confd, LINES).resources
    assert (resource.prefixes, resource.shared, resource.each.head) == (("/vhosts",), (), "/vhosts")
    assert (resource.dest, resource.keys_match) == ("/etc/nginx/conf.d/{{ name }}.conf", "segment")


def test_what_keys_names_is_seen_by_all_items(confd):  # noqa: F811
    (resource,) = load_one(confd, LINES + 'keys = ["/global"]\n').resources
    assert (resource.prefixes, resource.shared) == (("/vhosts", "/global"), ("/global",))


def test_prefix_is_prepended_and_templates_do_not_see_it(confd):  # noqa: F811
    (resource,) = load_one(confd, LINES + 'prefix = "/production"\n').resources
    assert (resource.prefixes, resource.strip, resource.each.head) == (
        ("/production/vhosts",),
        "/production",
        "/vhosts",
    )
    (resource,) = load_one(confd, LINES, replace(Settings(), prefix="/test")).resources
    assert resource.prefixes == ("/test/vhosts",)


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("{{ name }}", "all", "with for_each, dest needs {{ name }} in the name of the file", 3),
        ("conf.d/{{ name }}", "{{ name }}/site", "with for_each, dest has {{ name }} in the name of the file alone", 3),
        ("{{ name }}", "{{ name }}{{ port }}", "with for_each, dest has {{ name }} in the name of the file alone", 3),
        ('"/vhosts/*"', '"/vhosts"', "for_each: no segment of it has a wildcard", 4),
        ('"/vhosts/*"', '"vhosts/*"', "for_each: it begins with no slash: write /vhosts/*", 4),
        ('"/vhosts/*"', '"/*/*"', "for_each: more than one segment of it has wildcards", 4),
        ('*"\n', '*"\ngroup = "lb"\n', "for_each and group exclude each other", 5),
        ('*"\n', '*"\nkeys_match = "text"\n', 'for_each and keys_match = "text" exclude each other', 5),
        (
            '*"\n',
            '*"\nreload_cmd = "true"\nreload_haproxy = "unix:/run/a.sock"\n',
            "for_each and reload_haproxy exclude each other",
            6,
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(confd, old, new, message, line):  # noqa: F811
    loaded = load_one(confd, LINES.replace(old, new))
    (error,) = loaded.errors.values()
    assert error.message.startswith(message)
    assert (error.exit_code, error.where["resource"], error.where["line"]) == (2, "v", line)
    assert error.hint or "for_each:" in message
    assert loaded.resources == ()
