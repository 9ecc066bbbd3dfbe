"""The daemon on the memory store: what must hold however its threads and its surroundings behave."""

from __future__ import annotations

import json
import threading
from random import Random

from confpy.config.settings import Settings
from confpy.daemon import threads
from confpy.daemon.daemon import Daemon
from confpy.errors import StoreError, TemplateError
from confpy.frozen import replace
from confpy.log import Log
from confpy.messages import Signalled
from confpy.stores.memory import MemoryStore
from confpy.stores.tree import Stores
from confpy.templates.resolve import ANSWERS
from tests.waiting import wait_until


class Impatient(Random):
    """Draws the shortest wait of every backoff."""

    def random(self):
        return 0.0


class Running:
    """A daemon in this process, on a thread of its own: signals are posted to it as messages."""

    def __init__(self, folder, store, resources, templates, **settings):
        for name in ("conf.d", "templates"):
            (folder / name).mkdir(exist_ok=True)
        for name, text in resources.items():
            (folder / "conf.d" / f"{name}.toml").write_text(text)
        for name, text in templates.items():
            (folder / "templates" / name).write_text(text)
        self.code = None
        self.daemon = Daemon(
            Settings(**{"confdir": str(folder), "cache_dir": None, "watch": True, "settle": 0.0, **settings}),
            Stores(store),
            Log(form="json"),
            random=Impatient(),
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        self.code = self.daemon._run()

    def __enter__(self):
        return self.daemon

    def __exit__(self, *_):
        self.daemon._inbox.put(Signalled(15))
        self._thread.join(20)
        self.daemon._store.close()
        assert not self._thread.is_alive()


def resource(folder, name, template, more=""):
    return f'[template]\nsrc = "{template}"\nengine = "jinja"\ndest = "{folder}/{name}.out"\nkeys = ["/a"]\n{more}\n'


def read(folder, name):
    try:
        return (folder / f"{name}.out").read_text()
    except FileNotFoundError:
        return None


def test_a_stream_that_breaks_again_and_again_leaves_nothing_behind(tmp_path):
    class Breaking(MemoryStore):
        """Each stream ends with an error as soon as it has brought something."""

        opened = 0

        def watch(self, cursors, identity=""):
            stream = super().watch(cursors, identity)
            self.opened += 1

            class Broken:
                def __iter__(self):
                    for changes in stream:
                        yield changes
                        raise StoreError("reset")

                def close(self):
                    stream.close()

            return Broken()

    store = Breaking({"/a": "0"})
    with Running(tmp_path, store, {"r": resource(tmp_path, "r", "t")}, {"t": '{{ getv("/a") }}'}) as daemon:
        for number in range(1, 6):
            wait_until(lambda n=number: store.opened == n, what="a stream")
            store.set("/a", str(number))
            wait_until(lambda n=number: read(tmp_path, "r") == str(n), what="the change")
        wait_until(lambda: store.opened == 6 and len(daemon._streams) == 1, what="one handle for the one stream")


def test_a_daemon_that_stops_has_saved_the_keys_of_its_last_delivery(tmp_path):
    class Remote(MemoryStore):
        """Keys of a store that may be away at the next start are saved."""

        capabilities = replace(MemoryStore.capabilities, remote=True)

    store = Remote({"/a": "0"})
    templates = {"t": '{{ getv("/a") }}'}
    with Running(tmp_path, store, {"r": resource(tmp_path, "r", "t")}, templates, state_dir=str(tmp_path / "state")):
        wait_until(lambda: list((tmp_path / "state").rglob("keys.json")), what="the first keys, saved at once")
        store.set("/a", "1")  # the next are saved ten seconds later, or at the end
        wait_until(lambda: read(tmp_path, "r") == "1", what="the second delivery")
    (saved,) = (tmp_path / "state").rglob("keys.json")
    assert json.loads(saved.read_text())["record"]["keys"] == {"/a": "1"}


def test_a_thread_that_cannot_be_started_is_reported_and_tried_again(tmp_path, monkeypatch, capfd):
    start, refused = threading.Thread.start, []

    def start_or_refuse(thread):
        job = thread.name.removeprefix("confpy-").rpartition("-")[0] or thread.name.removeprefix("confpy-")
        if thread.name.startswith("confpy-") and job not in refused:
            refused.append(job)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    monkeypatch.setattr(threads, "MOST_IDLE", 0)  # so that each job needs a new one
    store = MemoryStore({"/a": "0"})
    reload = f'reload_cmd = "touch {tmp_path}/reloaded"'
    with Running(tmp_path, store, {"r": resource(tmp_path, "r", "t", reload)}, {"t": '{{ getv("/a") }}'}):
        wait_until((tmp_path / "reloaded").exists, seconds=30, what="the reload")
        wait_until(lambda: store._replica._watches, what="a stream")
    assert {"read", "resolve", "deliver", "reload", "watch"} <= set(refused)
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert any("no thread can be started" in event.get("error", "") for event in events)


def test_a_lookup_that_hangs_holds_up_no_other_resource(tmp_path, monkeypatch):
    stuck = threading.Event()

    def hang(name):
        stuck.wait()
        return ()

    monkeypatch.setitem(ANSWERS, "ip", hang)
    names = "".join(f'{{{{ lookup_ip("dead{number}")|length }}}}' for number in range(20))
    templates = {"dead": names, "live": '{{ file_exists("/") }}{{ getv("/a") }}'}
    resources = {name: resource(tmp_path, name, name) for name in templates}
    try:
        with Running(tmp_path, MemoryStore({"/a": "0"}), resources, templates):
            wait_until(lambda: read(tmp_path, "live") == "true0", seconds=4, what="the resource that asks for a path")
    finally:
        stuck.set()


def test_a_render_that_failed_on_an_answer_is_made_again_with_a_new_one(tmp_path, monkeypatch):
    answers = [TemplateError("no name server")]

    def addresses(_name):
        if isinstance(answers[0], TemplateError):
            raise answers[0]
        return answers[0]

    monkeypatch.setitem(ANSWERS, "ip", addresses)
    templates = {
        "name": '{{ lookup_ip("web.test")[0] }}',
        "path": f'{{% if not file_exists("{tmp_path}/there") %}}{{{{ fail("not yet") }}}}{{% endif %}}there',
    }
    resources = {name: resource(tmp_path, name, name) for name in templates}
    with Running(tmp_path, MemoryStore({"/a": "0"}), resources, templates) as daemon:
        wait_until(lambda: sum(bool(t.error) for t in daemon._agent.resources) == 2, what="both fail")
        answers[0] = ("10.0.0.1",)
        (tmp_path / "there").touch()
        wait_until(lambda: (read(tmp_path, "name"), read(tmp_path, "path")) == ("10.0.0.1", "there"), what="both")


def test_a_template_that_asks_for_ever_new_things_fails_instead_of_spinning(tmp_path, monkeypatch):
    monkeypatch.setattr("confpy.agent.rendering.MOST_LOOKUPS", 50)
    templates = {"t": '{{ file_exists("/" ~ datetime().timestamp()) }}'}
    with Running(tmp_path, MemoryStore({"/a": "0"}), {"r": resource(tmp_path, "r", "t")}, templates) as daemon:
        error = wait_until(lambda: next((t.error for t in daemon._agent.resources), None), what="its error")
        assert "more than" in error.message


def test_when_the_first_files_are_delivered_and_nothing_comes_memory_is_given_back_once(tmp_path, monkeypatch):
    monkeypatch.setattr("confpy.daemon.daemon.REST", 0.05)
    store, rests = MemoryStore({"/a": "0"}), []
    with Running(tmp_path, store, {"r": resource(tmp_path, "r", "t")}, {"t": '{{ getv("/a") }}'}) as daemon:
        daemon._at_rest = lambda: rests.append(read(tmp_path, "r"))
        wait_until(lambda: rests, what="a moment without messages")
        store.set("/a", "1")
        wait_until(lambda: read(tmp_path, "r") == "1", what="the change")
    assert rests == ["0"]


def test_memory_is_given_back_after_a_while_though_messages_never_end(tmp_path, monkeypatch):
    monkeypatch.setattr("confpy.daemon.daemon.REST", 600)
    monkeypatch.setattr("confpy.daemon.daemon.NO_REST", 0)
    store, rests = MemoryStore({"/a": "0"}), []
    with Running(tmp_path, store, {"r": resource(tmp_path, "r", "t")}, {"t": '{{ getv("/a") }}'}) as daemon:
        daemon._at_rest = lambda: rests.append(read(tmp_path, "r"))
        wait_until(lambda: read(tmp_path, "r") == "0", what="the first file")
        store.set("/a", "1")
        wait_until(lambda: rests, what="the next message")
