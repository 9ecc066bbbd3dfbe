"""The I/O side: answers or errors as values, and a cache of code that trusts nobody."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from confpy.errors import ConfpyError, TemplateError
from confpy.templates import cache, jinja
from confpy.templates import resolve as resolve_module
from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import LARGEST, Resolver
from confpy.templates.results import Compiled, TemplateMissing, World
from tests.rendering import resource, view_of
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "templates"
    path.mkdir()
    (path / "main").write_text("{% include 'part' %}{{ lookupIP('n.test') }}")
    (path / "part").write_text("part")
    return path


@pytest.fixture
def cache_dir(tmp_path):
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    return path


def source(path: str) -> Lookup:
    return Lookup("template", path, "jinja")


def test_a_template_is_answered_with_its_code_and_what_it_will_ask(folder):
    answer = Resolver(folder=str(folder), cache_dir=None).resolve(source("main"))
    assert isinstance(answer, Compiled)
    assert answer.needs == {source("part"), Lookup("ip", "n.test")}
    assert answer.confined
    assert answer.file == f"{folder}/main"


def test_an_unchanged_template_is_the_same_answer_and_a_changed_one_is_not(folder):
    resolver = Resolver(folder=str(folder), cache_dir=None)
    first = resolver.resolve(source("part"))
    assert resolver.resolve(source("part")) is first
    assert Resolver(folder=str(folder), cache_dir=None).resolve(source("part")) == first
    (folder / "part").write_text("trap")
    assert resolver.resolve(source("part")) != first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (str, "there is no template"),
        (Path.mkdir, "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to(path), "cannot read"),
        (lambda path: path.write_bytes(b"x" * (LARGEST + 1)), "larger than 16 MiB"),
        (lambda path: path.write_text("{{"), "end of template"),
        (lambda path: path.write_text("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"), "nested too deeply|too many"),
    ],
)
def test_what_cannot_be_read_or_compiled_is_answered_with_an_error(folder, make, message):
    make(folder / "odd")
    answer = Resolver(folder=str(folder), cache_dir=None).resolve(source("odd"))
    assert isinstance(answer, TemplateError)
    assert "odd" in str(answer)
    import re

    assert re.search(message, answer.message)


def test_a_file_in_the_place_of_a_folder_is_a_missing_template(folder):
    assert isinstance(Resolver(folder=str(folder), cache_dir=None).resolve(source("part/x")), TemplateMissing)
    assert isinstance(Resolver(folder=str(folder), cache_dir=None).resolve(source("a\0b")), ConfpyError)


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), OSError(5, "Input/output error"), RuntimeError("secret"), TemplateError("no")],
)
def test_nothing_that_goes_wrong_is_raised(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Resolver, "_template", fail)
    for kind in ("ip", "srv", "exists"):
        monkeypatch.setitem(resolve_module.ANSWERS, kind, fail)
    for kind in ("template", "ip", "srv", "exists"):
        answer = Resolver(folder="/x", cache_dir=None).resolve(Lookup(kind, "n"))
        assert isinstance(answer, TemplateError)
        assert "secret" not in str(answer)


class Mount:
    """Paths below ``/dead`` hang until they are released."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.released = threading.Event()
        monkeypatch.setitem(resolve_module.ANSWERS, "exists", self._exists)

    def _exists(self, path: str) -> bool:
        self.asked.append(path)
        if path.startswith("/dead"):
            self.released.wait(10)
        return True


@pytest.fixture
def mount(monkeypatch):
    made = Mount(monkeypatch)
    yield made
    made.released.set()


def test_a_call_that_hangs_is_not_made_again_while_it_does(mount, monkeypatch):
    monkeypatch.setattr(resolve_module, "PATIENCE", 0.1)
    resolver = Resolver(folder="/x", cache_dir=None)
    for _ in range(3):
        answer = resolver.resolve(Lookup("exists", "/dead"))
        assert isinstance(answer, TemplateError)
    assert "still no answer" in str(answer)
    assert len(mount.asked) == 1
    mount.released.set()
    wait_until(lambda: resolver.resolve(Lookup("exists", "/dead")) is True)
    assert len(mount.asked) == 2


def test_lookups_that_hang_delay_no_other(mount, monkeypatch):
    monkeypatch.setattr(resolve_module, "PATIENCE", 3.0)
    paths = [f"/{'dead' if number < 5 else 'there'}/{number}" for number in range(30)]
    answers = Resolver(folder="/x", cache_dir=None).resolve_all([Lookup("exists", path) for path in paths])
    began = time.monotonic()
    facts: dict[Lookup, object] = {}
    while len(facts) < 25:
        facts |= next(answers)
    assert time.monotonic() - began < 2.5
    assert {lookup.name for lookup in facts} == set(paths[5:])
    late = [answer for facts in answers for answer in facts.values()]
    assert len(late) == 5
    assert all(isinstance(answer, TemplateError) for answer in late)


def test_what_is_ready_together_is_answered_together(folder):
    for number in range(200):
        (folder / f"t{number}").write_text("{{ getv('/k') }}")
    answers = list(Resolver(folder=str(folder), cache_dir=None).resolve_all([source(f"t{n}") for n in range(200)]))
    assert sum(map(len, answers)) == 200
    assert len(answers) < 20


def test_a_name_is_told_only_where_a_template_has_it_word_for_word(folder):
    (folder / "main").write_text('{{ lookup_ip("plain..test") }}{{ lookup_ip(getv("/k")) }}')
    resolver = Resolver(folder=str(folder), cache_dir=None)
    resolver.resolve(source("main"))
    assert "plain..test" in str(resolver.resolve(Lookup("ip", "plain..test")))
    for kind in ("ip", "srv"):
        assert "hunter2" not in str(resolver.resolve(Lookup(kind, "hunter2..test")))


def test_names_are_resolved_to_sorted_addresses():
    resolver = Resolver(folder="/x", cache_dir=None)
    found = resolver.resolve(Lookup("ip", "localhost"))
    assert set(found) <= {"127.0.0.1", "::1"}
    assert found == tuple(sorted(found)) != ()
    assert isinstance(resolver.resolve(Lookup("ip", "a..b")), TemplateError)
    assert isinstance(resolver.resolve(Lookup("ip", "x" * 300)), TemplateError)


def test_paths_exist_unless_they_are_not_found(tmp_path):
    resolver = Resolver(folder="/x", cache_dir=None)
    for path, there in [(tmp_path, True), (tmp_path / "none", False), ("/dev/null/x", True), ("/etc/passwd", True)]:
        assert resolver.resolve(Lookup("exists", str(path))) is there


def test_srv_records_are_read_from_a_name_server(monkeypatch):
    import dns.message
    import dns.resolver
    import dns.rrset

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, ThreadPoolExecutor(1) as pool:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)

        def serve():
            query, client = server.recvfrom(4096)
            answer = dns.message.make_response(dns.message.from_wire(query))
            answer.answer.append(
                dns.rrset.from_text("_http._tcp.web.test.", 1, "IN", "SRV", "1 2 90 b.test.", "1 2 80 a.test.")
            )
            server.sendto(answer.to_wire(), client)

        class Local(dns.resolver.Resolver):
            def __init__(self):
                super().__init__(configure=False)
                self.nameservers, self.port = ["127.0.0.1"], server.getsockname()[1]

        monkeypatch.setattr(dns.resolver, "Resolver", Local)
        served = pool.submit(serve)
        answer = Resolver(folder="/x", cache_dir=None).resolve(Lookup("srv", "_http._tcp.web.test"))
        served.result()
        assert answer == (("a.test.", 80, 1, 2), ("b.test.", 90, 1, 2))

        class Nowhere(Local):
            def __init__(self):
                super().__init__()
                self.nameservers = []

        monkeypatch.setattr(dns.resolver, "Resolver", Nowhere)
        failed = Resolver(folder="/x", cache_dir=None).resolve(Lookup("srv", "_http._tcp.web.test"))
        assert isinstance(failed, TemplateError)


# --- the cache -----------------------------------------------------------------------------------------------------


class Compiler:
    """Counts what is compiled, and not taken from the cache."""

    def __init__(self, monkeypatch):
        self.count = 0
        real = jinja.compile_source

        def counted(*arguments):
            self.count += 1
            return real(*arguments)

        monkeypatch.setattr(jinja, "compile_source", counted)


@pytest.fixture
def compiler(monkeypatch):
    return Compiler(monkeypatch)


def resolve(folder: Path, cache_dir: Path, **more) -> object:
    answer = Resolver(folder=str(folder), cache_dir=str(cache_dir), **more).resolve(source("main"))
    assert isinstance(answer, Compiled)
    assert answer.needs == {source("part"), Lookup("ip", "n.test")}
    return answer


def entries(cache_dir: Path) -> list[Path]:
    return sorted(cache_dir.iterdir())


def test_code_is_compiled_once_and_kept_for_its_owner_alone(folder, cache_dir, compiler):
    first, second = resolve(folder, cache_dir), resolve(folder, cache_dir)
    assert compiler.count == 1
    assert first == second
    (entry,) = entries(cache_dir)
    assert entry.stat().st_mode & 0o777 == 0o600


def test_the_folder_is_made_where_it_is_missing(folder, tmp_path, compiler):
    resolve(folder, tmp_path / "made")
    resolve(folder, tmp_path / "made")
    assert compiler.count == 1
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_a_changed_template_takes_the_place_of_its_old_code(folder, cache_dir, compiler):
    resolve(folder, cache_dir)
    (folder / "main").write_text("{% include 'part' %}{{ lookupIP('n.test') }} changed")
    resolve(folder, cache_dir)
    assert compiler.count == 2
    assert len(entries(cache_dir)) == 1


def test_code_of_another_engine_option_or_version_is_not_used(folder, cache_dir, compiler, monkeypatch):
    resolve(folder, cache_dir)
    resolve(folder, cache_dir, sandbox=True)
    assert compiler.count == 2
    monkeypatch.setattr("jinja2.__version__", "9.9")
    resolve(folder, cache_dir, sandbox=True)
    assert compiler.count == 3
    monkeypatch.setattr(cache, "FORMAT", "confpy-code 9")
    resolve(folder, cache_dir, sandbox=True)
    assert compiler.count == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry.write_bytes(b""),
        lambda entry: entry.write_bytes(entry.read_bytes()[:-1]),
        lambda entry: entry.write_bytes(b"confpy-code 9 something new\n"),
        lambda entry: entry.write_bytes(entry.read_bytes()[:-4] + b"\xff\xff\xff\xff"),
        lambda entry: entry.chmod(0o620),
        lambda entry: entry.chmod(0o602),
        lambda entry: (entry.rename(entry.with_name("other")), entry.symlink_to("other")),
        lambda entry: (entry.unlink(), os.mkfifo(entry)),
        lambda entry: (entry.unlink(), entry.mkdir()),
    ],
)
def test_code_that_is_not_whole_or_that_others_can_write_is_made_anew(folder, cache_dir, compiler, spoil):
    resolve(folder, cache_dir)
    spoil(entries(cache_dir)[0])
    resolve(folder, cache_dir)
    assert compiler.count == 2


@pytest.mark.parametrize("opened", [".", ".."])
def test_a_folder_that_others_can_write_or_exchange_is_not_used(folder, tmp_path, compiler, opened):
    cache_dir = tmp_path / "parent" / "cache"
    cache_dir.mkdir(mode=0o700, parents=True)
    resolve(folder, cache_dir)
    (cache_dir / opened).chmod(0o777)
    resolve(folder, cache_dir)
    assert compiler.count == 2


def test_code_of_another_user_is_not_used(folder, cache_dir, compiler, monkeypatch):
    # To change an owner takes root; to be somebody else who looks at it shows the same.
    resolve(folder, cache_dir)
    (entry,) = entries(cache_dir)

    def of_another(path):
        status = os.lstat(path)
        return os.stat_result([*status[:4], 4242, *status[5:]]) if path == str(entry) else status

    monkeypatch.setattr(cache.DISK, "lstat", of_another)
    resolve(folder, cache_dir)
    assert compiler.count == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(folder, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none"), Path("/dev/null")):
        resolve(folder, place)


def test_a_full_disk_leaves_no_half_entry(folder, cache_dir, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "rename", full)
    resolve(folder, cache_dir)
    assert entries(cache_dir) == []


def test_many_threads_may_ask_at_once(folder, cache_dir, compiler):
    for number in range(20):
        (folder / f"t{number}").write_text("{{ getv('/k') }}" * (number + 1))
    resolver = Resolver(folder=str(folder), cache_dir=str(cache_dir))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: resolver.resolve(source(f"t{number % 20}")), range(200)))
    assert all(isinstance(answer, Compiled) for answer in answers)
    resolver.close()
    assert len(entries(cache_dir)) == 1
    compiler.count = 0
    again = Resolver(folder=str(folder), cache_dir=str(cache_dir))
    list(again.resolve_all([source(f"t{number}") for number in range(20)]))
    assert compiler.count == 0


def test_what_another_thread_writes_to_the_cache_meanwhile_stays_in_it(folder, cache_dir, compiler, monkeypatch):
    *others, late = lookups = [source(f"t{number}") for number in range(20)]
    for lookup in lookups:
        (folder / lookup.name).write_text(f"{{{{ getv('/{lookup.name}') }}}}")
    resolver = Resolver(folder=str(folder), cache_dir=str(cache_dir))
    with monkeypatch.context() as patch:
        real = cache.CodeCache.save

        def save(self, in_use):
            patch.setattr(cache.CodeCache, "save", real)
            list(resolver.resolve_all(others[1:]))
            resolver._next_save = float("inf")
            resolver.resolve(late)  # so that there is something to write
            real(self, in_use)

        patch.setattr(cache.CodeCache, "save", save)
        resolver.resolve(others[0])
    compiler.count = 0
    list(Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all(lookups))
    assert compiler.count == 0


def test_a_thousand_templates_with_one_text_are_compiled_once_and_share_their_code(folder, cache_dir, compiler):
    lookups = [source(f"t{number}") for number in range(1000)]
    for lookup in lookups:
        (folder / lookup.name).write_text("{{ getv('/k') }}")
    for _ in range(2):
        facts = {}
        for answers in Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all(lookups):
            facts |= answers
        assert len(facts) == 1000
        for shared in ("code", "source", "digest", "needs"):
            assert len({id(getattr(answer, shared)) for answer in facts.values()}) == 1
        assert {answer.name for answer in facts.values()} == {lookup.name for lookup in lookups}
    assert compiler.count == 1


def test_a_warm_start_reads_one_file_of_the_cache_and_writes_none(folder, cache_dir, compiler, monkeypatch):
    lookups = [source(f"t{number}") for number in range(100)]
    for number, lookup in enumerate(lookups):
        (folder / lookup.name).write_text(f"{{{{ getv('/k{number}') }}}}")
    list(Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all(lookups))
    assert compiler.count == 100
    reads, writes = [], []
    real = cache.DISK.read
    monkeypatch.setattr(cache.DISK, "read", lambda path: reads.append(path) or real(path))
    monkeypatch.setattr(cache.DISK, "write_file", lambda *given, **_: writes.append(given))
    list(Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all(lookups))
    assert (compiler.count, len(reads), writes) == (100, 1, [])


def test_the_name_of_a_template_stands_in_its_errors_though_others_share_its_text(folder, cache_dir):
    (folder / "part").write_text("{% macro one() %}{% endmacro %}")
    lookups = [source("a"), source("b")]
    for text, said in (("\n{{ 1 // 0 }}", ""), ("{# a, b #}{% from 'part' import other %}{{ other() }}", " in '{}'")):
        for lookup in lookups:
            (folder / lookup.name).write_text(text)
        for _ in range(2):
            resolver = Resolver(folder=str(folder), cache_dir=str(cache_dir))
            facts = {lookup: resolver.resolve(lookup) for lookup in [*lookups, source("part")]}
            for name in "ab":
                with pytest.raises(TemplateError) as caught:
                    Renderer().render(resource(name), view_of({}), World(0.0, {}, facts))
                assert caught.value.where["template"] == name
                assert said.format(name) in caught.value.message


def test_the_cache_keeps_for_a_week_what_others_use_and_never_grows_beyond_twice_what_is_in_use(
    folder, cache_dir, compiler, monkeypatch
):
    for name in "abc":
        (folder / name).write_text(f"{name} {{{{ getv('/k') }}}}")
    all_three = [source(name) for name in "abc"]
    list(Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all(all_three))
    size = entries(cache_dir)[0].stat().st_size
    resolver = Resolver(folder=str(folder), cache_dir=str(cache_dir))
    for number in range(10):  # one process, many edits of one template
        (folder / "a").write_text(f"{number} {{{{ getv('/k') }}}}")
        resolver.resolve(source("a"))
        resolver.close()
    assert entries(cache_dir)[0].stat().st_size < 2.5 * size
    compiler.count = 0
    list(Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all(all_three))
    assert compiler.count <= 2
    later = time.time() + 8 * 86400
    monkeypatch.setattr(cache.time, "time", lambda: later)
    Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve(source("a"))
    assert entries(cache_dir)[0].stat().st_size < 0.6 * size


def test_two_processes_that_share_a_cache_do_not_undo_each_others_work(folder, cache_dir, compiler):
    one, other = (Resolver(folder=str(folder), cache_dir=str(cache_dir)) for _ in range(2))
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    for name in ("a", "b"):
        one.resolve(source(name))
        other.resolve(source(name))
    for resolver in (one, other):
        resolver.close()
    compiler.count = 0
    for name in ("a", "b"):
        Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve(source(name))
    assert compiler.count == 0


def test_lookups_that_follow_each_other_closely_do_not_each_write_the_cache(folder, cache_dir, compiler, monkeypatch):
    writes = []

    def write(*given, real=cache.DISK.write_file, **more):
        writes.append(given)
        time.sleep(0.05)
        real(*given, **more)

    monkeypatch.setattr(cache.DISK, "write_file", write)
    resolver = Resolver(folder=str(folder), cache_dir=str(cache_dir))
    for number in range(20):
        (folder / f"t{number}").write_text(f"{number}")
        resolver.resolve(source(f"t{number}"))
    assert len(writes) == 1
    resolver.close()
    assert len(writes) == 2
    compiler.count = 0
    list(Resolver(folder=str(folder), cache_dir=str(cache_dir)).resolve_all([source(f"t{n}") for n in range(20)]))
    assert compiler.count == 0


def test_a_use_of_compiled_code_is_noted_once_a_day(folder, cache_dir, monkeypatch):
    resolve(folder, cache_dir)
    (entry,) = cache_dir.iterdir()
    now = time.time()
    for days, noted in ((0, False), (1, True), (1, False)):
        os.utime(entry, (1000, 1000))
        moment = now + days * 86400
        monkeypatch.setattr(cache.time, "time", lambda moment=moment: moment)
        resolve(folder, cache_dir)
        assert (entry.stat().st_mtime > 1000) is noted
