"""Files beside the store: what templates may read of them, and when a program is reloaded since they are new."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from confpy.agent.watched_files import WatchedFiles, lookups
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.errors import TemplateError
from confpy.frozen import replace
from confpy.reload.actions import CommandReload
from confpy.templates.lookup import Lookup
from confpy.templates.resolve import Resolver
from tests.rendering import rendered, text

CALLS = {"jinja": ('{{ file("PATH") }}', '{{ file_hash("PATH") }}'), "go": ('{{file "PATH"}}', '{{fileHash "PATH"}}')}


@pytest.mark.parametrize("sandbox", [False, True])
@pytest.mark.parametrize("engine", CALLS)
def test_a_template_reads_content_and_digest_of_a_watched_file(tmp_path, engine, sandbox):
    path = tmp_path / "web.pem"
    path.write_bytes(b"a\xff\n")
    content, digest = (call.replace("PATH", str(path)) for call in CALLS[engine])
    more = {"engine": engine, "sandbox": sandbox, "watch_files": (str(path),)}
    assert text(content, **more) == "a\udcff\n"
    assert text(digest, **more) == sha256(b"a\xff\n").hexdigest()


@pytest.mark.parametrize("call", [call for calls in CALLS.values() for call in calls])
@pytest.mark.parametrize("path", ["/etc/shadow", "/watched/../etc/shadow", "/watched/x", "watched", "", "/"])
def test_no_other_file_is_read_whoever_asks_for_it(call, path):
    """A path may come out of the store."""
    engine = "go" if call in CALLS["go"] else "jinja"
    argument = call.replace('"PATH"', '(getv "/p")' if engine == "go" else "getv('/p')")
    with pytest.raises(TemplateError, match="watch_files") as caught:
        rendered(argument, {"/p": path}, engine=engine, watch_files=("/watched",))
    assert caught.value.where["key"] == "/p" if path else True


def test_a_watched_file_may_be_written_in_another_way():
    facts = {Lookup("file", "/a/b"): "content"}
    assert text('{{ file("/a/./c/../b") }}', facts=facts, watch_files=("/a/b",)) == "content"


@pytest.mark.parametrize("kind", ["file", "hash"])
@pytest.mark.parametrize("what", ["fifo", "folder", "device", "large", "missing"])
def test_only_a_regular_file_of_a_megabyte_is_read_and_nobody_waits_for_another(tmp_path, kind, what):
    path = "/dev/zero" if what == "device" else str(tmp_path / what)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        os.mkdir(path)
    elif what == "large":
        with open(path, "wb") as file:
            file.truncate((1 << 20) + 1)
    answer = Resolver(folder=str(tmp_path), cache_dir=None).resolve(Lookup(kind, path))
    assert isinstance(answer, TemplateError)
    assert path in answer.message


def test_a_file_of_a_megabyte_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * (1 << 20))
    resolver = Resolver(folder=str(tmp_path), cache_dir=None)
    assert len(resolver.resolve(Lookup("file", str(tmp_path / "x")))) == 1 << 20


def test_the_content_of_a_watched_file_is_in_no_error(tmp_path):
    (tmp_path / "key").write_text("s3cret")
    path = str(tmp_path / "key")
    for template in (f'{{{{ file("{path}") | int_range(1, 2) }}}}', f'{{{{ file("{path}").nothing }}}}'):
        with pytest.raises(TemplateError) as caught:
            text(template, watch_files=(path,))
        assert "s3cret" not in str(caught.value.fields())


# --- when its program is reloaded ------------------------------------------------------------------------------------

WEB = Resource(
    name="web",
    file="web.toml",
    src="web",
    dest="/run/web",
    reload_cmd=CommandReload("true"),
    watch_files=("/a.pem", "/b.pem"),
)


def facts(**answers):
    return {Lookup("hash", f"/{name}.pem"): answer for name, answer in answers.items()}


def test_one_file_that_is_another_is_new_until_it_was_delivered():
    files = WatchedFiles()
    old, new = files.digest(WEB, facts(a="1", b="2")), files.digest(WEB, facts(a="1", b="3"))
    assert not files.are_renewed(WEB, old), "nobody knows what it was before"
    files.note(WEB, old)
    assert not files.are_renewed(WEB, old)
    assert files.are_renewed(WEB, new)
    assert files.are_renewed(WEB, new)
    files.note(WEB, new)
    assert not files.are_renewed(WEB, new)


def test_what_was_delivered_is_known_to_a_later_start_and_saved_once():
    files = WatchedFiles()
    files.note(WEB, "old")
    (saved,) = files.save(0.0)
    assert files.save(100.0) == []
    files.note(WEB, "old")
    assert files.save(200.0) == []
    later = WatchedFiles()
    later.take_over(saved.files)
    assert later.are_renewed(WEB, "new")
    assert not later.are_renewed(WEB, "old")


def test_ten_thousand_digests_are_saved_once_a_second_and_at_the_end():
    files = WatchedFiles()
    saved = []
    for number in range(10_000):
        files.note(replace(WEB, name=str(number), dest=f"/run/{number}"), "old")
        saved += files.save(number / 1000)
    assert len(saved) < 100, "not all at each delivery"
    assert files.save_at <= 10.0 + 1.0
    saved += files.save(10.0, at_end=True)
    assert len(saved[-1].files) == 10_000
    assert files.save_at == NEVER


def test_a_file_that_cannot_be_read_counts_as_other_than_one_that_can():
    files = WatchedFiles()
    answers = [facts(a="1", b="2"), facts(a="1", b=TemplateError("gone")), facts(a="2", b="1")]
    assert len({files.digest(WEB, answer) for answer in answers}) == 3


def test_a_resource_without_files_or_without_a_reload_is_never_renewed():
    files = WatchedFiles()
    files.note(WEB, "old")
    silent = Resource(name="web", file="web.toml", src="web", dest="/run/web", watch_files=("/a.pem",))
    assert not files.are_renewed(silent, "new")
    plain = Resource(name="web", file="web.toml", src="web", dest="/run/other", reload_cmd=CommandReload("true"))
    assert files.digest(plain, {}) == ""
    assert lookups(plain) == frozenset()
    files.note(plain, "")
    assert not files.are_renewed(plain, "")
