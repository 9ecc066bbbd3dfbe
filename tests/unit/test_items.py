"""The items of a resource with ``for_each``: what becomes of each as keys come and go, on a clock that tests turn."""

from __future__ import annotations

import pytest

from confpy.candidates import Candidate, DeliveredState, OwnedFile, Report
from confpy.clock import LONGEST
from confpy.config.resource import Resource
from confpy.errors import CheckError
from confpy.frozen import replace
from confpy.keys.each import parse_each
from confpy.keys.snapshot import Changes
from confpy.messages import Accepted, Changed, Counted, Deliver, Recovered, Restored
from confpy.reload.actions import CommandReload
from confpy.templates.results import Needs, template_lookup
from tests.unit.test_agent import Harness
from tests.unit.test_agent_costs import AT_MOST, counted

RELOAD = CommandReload("reload")


def sites(pattern: str = "/app/*", dest: str = "/out/{{ name }}", **more) -> Resource:
    each = parse_each(pattern)
    more = {"reload_cmd": RELOAD, "prefixes": (each.head, *more.get("shared", ())), **more}
    return Resource("v", "v.toml", "t", dest, each=each, **more)


class Files(Harness):
    """What is delivered is a file each: ``files``, by target."""

    def __init__(self, *resources: Resource, keys: dict[str, str], **config) -> None:
        self.files: dict[str, bytes] = {}
        self.bad: set[str] = set()
        """Contents that fail their check."""
        self.batches: list[list[str]] = []
        super().__init__(*(resources or (sites(),)), keys=keys, **config)
        self.waits = ()

    def render(self, resource, view, world):
        if (source := template_lookup(resource.src, resource.engine)) not in world.facts:
            raise Needs(frozenset({source}))
        rendered = super().render(resource, view, world)
        content = str(sorted((pair.key, pair.value) for depth in (2, 3) for pair in view.gets("/*" * depth)))
        return replace(rendered, content=content.encode())

    def deliver(self, action: Deliver):
        self.batches.append([one.resource.name for group in action.groups for one in group.candidates])
        return [self.report(one) for group in action.groups for one in group.candidates]

    def report(self, one: Candidate) -> Report:
        name, dest = one.resource.name, one.resource.dest
        if any(bad.encode() in one.content for bad in self.bad):
            return Report(name, "failed", CheckError("no", resource=name))
        known = DeliveredState(one.content[:32], None)
        if one.gone:
            return Report(name, "changed" if self.files.pop(dest, None) is not None else "unchanged", path=dest)
        changed = self.files.get(dest) != one.content
        self.files[dest] = one.content
        return Report(name, "changed" if changed else "unchanged", known=known, path=dest)

    def names(self) -> list[str]:
        return sorted(path.removeprefix("/out/") for path in self.files)


def keys_of(count: int) -> dict[str, str]:
    return {f"/app/{number}": "1" for number in range(count)}


def test_each_key_has_a_file_and_all_of_them_one_delivery_and_one_reload():
    files = Files(keys=keys_of(3))
    files.until(1.0)
    assert files.names() == ["0", "1", "2"]
    assert files.batches == [["v:0", "v:1", "v:2"]]
    assert len(files.runs) == 1


def test_one_key_that_changes_renders_and_delivers_its_item_alone():
    files = Files(keys=keys_of(3))
    files.until(1.0)
    files.put(**{"1": "2"})
    files.until(2.0)
    assert files.batches[1:] == [["v:1"]]
    assert files.files["/out/1"] == b"[('/app/1', '2')]"
    assert len(files.runs) == 2


def test_keys_that_come_and_go_are_one_delivery():
    files = Files(keys=keys_of(4))
    files.until(1.0)
    files.put(**{"0": None, "1": None, "new": "x", "2": "2"})
    files.until(5.0)
    assert (files.names(), files.batches[1:]) == (["2", "3", "new"], [["v:0", "v:1", "v:2", "v:new"]])
    assert len(files.runs) == 2
    assert files.agent.resources.states.keys() == {"v", "v:2", "v:3", "v:new"}


def test_a_folder_lives_as_long_as_it_has_keys():
    files = Files(sites("/app/*/"), keys={"/app/a/x": "1", "/app/b/x": "1", "/app/b/y": "1", "/app/no": "1"})
    files.until(1.0)
    assert files.names() == ["a", "b"]
    files.put(**{"a/x": None, "b/x": None})
    files.until(5.0)
    assert files.names() == ["b"]
    assert files.files["/out/b"] == b"[('/app/b/y', '1')]"


def test_a_bad_item_keeps_its_file_and_is_not_tried_again_when_another_one_changes():
    files = Files(keys=keys_of(3))
    files.until(1.0)
    files.bad = {"bad"}
    files.put(**{"0": "bad", "1": "2"})
    files.until(1.5)
    assert files.files["/out/0"] == b"[('/app/0', '1')]"
    assert files.files["/out/1"] == b"[('/app/1', '2')]"
    before = len(files.batches)
    files.agent.resources.states["v:0"].retry_at = LONGEST  # whatever its backoff is
    files.agent.resources.queue.forget(files.agent.resources.states["v:0"].group)
    files.agent.resources.retry(files.agent.resources.states["v:0"], LONGEST)
    files.put(**{"2": "2"})
    files.until(2.5)
    assert files.batches[before:] == [["v:2"]]
    files.put(**{"0": "good"})
    files.until(5.0)
    assert files.files["/out/0"] == b"[('/app/0', 'good')]"


def test_where_all_keys_vanish_no_file_is_removed_until_that_is_confirmed():
    files = Files(keys=keys_of(3))
    files.until(1.0)
    files.put(**dict.fromkeys("012"))
    files.until(3.0)
    assert files.names() == ["0", "1", "2"]
    (suspect,) = files.events("keys.suspect")
    assert suspect.fields["reason"] == "all of its 3 keys are gone"
    files.post(Accepted("v", True))
    files.until(10.0)
    assert files.names() == []
    assert files.events("items.none")


def test_a_loss_is_measured_in_items_not_in_keys():
    keys = {f"/app/{name}/{number}": "1" for name in "abcd" for number in range(5)}
    files = Files(sites("/app/*/", max_shrink=0.5), keys=keys)
    files.until(1.0)
    files.put(**{f"a/{number}": None for number in range(5)}, **{f"b/{number}": None for number in range(4)})
    files.until(3.0)
    assert files.names() == ["b", "c", "d"]
    files.put(**{f"{name}/{number}": None for name in "bc" for number in range(5)})
    files.until(5.0)
    assert files.names() == ["b", "c", "d"]
    assert files.events("keys.suspect")


def test_more_items_than_max_items_are_an_error_and_the_files_stay():
    files = Files(sites(max_items=3), keys=keys_of(3))
    files.until(1.0)
    files.put(**{"3": "1", "0": None, "4": "1"})
    files.until(2.0)
    assert files.names() == ["0", "1", "2"]
    (failed,) = files.events("resource.failed")
    assert failed.fields["error"] == "for_each matches 4 keys, more than max_items (3)"
    files.put(**{"4": None})
    files.until(70.0)
    assert files.names() == ["1", "2", "3"]


def test_names_that_make_no_file_are_named_and_the_others_are_delivered():
    files = Files(keys={"/app/a": "1", "/app/.hidden": "1", "/app/" + "x" * 300: "1"})
    files.until(1.0)
    assert files.names() == ["a"]
    failed = files.events("resource.failed")
    assert [one.fields["key"][:10] for one in failed] == ["/app/.hidd", "/app/xxxxx"]
    files.put(a="2")
    files.until(5.0)
    assert len(files.events("resource.failed")) == 2, "each is said once"
    files.put(**{".hidden": None, "x" * 300: None})
    files.until(9.0)
    assert files.names() == ["a"]


def test_a_one_shot_with_a_name_that_makes_no_file_fails_and_delivers_the_others():
    files = Files(keys={"/app/a": "1", "/app/.b": "1"}, onetime=True)
    files.until(5.0)
    assert (files.ended, files.names()) == (6, ["a"])


def test_an_item_does_not_take_the_target_of_another_resource():
    other = Resource("other", "o.toml", "t", "/out/a", prefixes=("/app",))
    files = Files(sites(), other, keys={"/app/a": "1", "/app/b": "2"})
    files.until(1.0)
    assert {"v:b", "other"} == files.agent.resources.states.keys() - {"v"}
    (failed,) = files.events("resource.failed")
    assert failed.fields["error"] == "its file is the target of another resource"
    assert failed.fields["key"] == "/app/a"


OWNED = tuple(OwnedFile(f"v:{name}", "v", name, f"/out/{name}", f"/out/{name}", "aa") for name in ("0", "gone"))


def test_what_an_earlier_run_has_delivered_and_has_no_key_is_removed_at_the_start():
    files = Files(keys=keys_of(1))
    files.files = {"/out/0": b"", "/out/gone": b"", "/out/foreign": b""}
    files.recovered = Recovered(owned=OWNED)
    files.until(1.0)
    assert files.names() == ["0", "foreign"]
    assert files.batches == [["v:0", "v:gone"]]


def test_at_the_start_a_store_that_is_empty_removes_nothing():
    files = Files(keys={})
    files.files = {"/out/0": b"", "/out/gone": b""}
    files.recovered = Recovered(counts={"v": (Counted(2, "", ("/app",), "/"),)}, owned=OWNED)
    files.until(3.0)
    assert (files.names(), files.batches) == (["0", "gone"], [])
    assert files.events("keys.suspect")


def test_after_an_edit_of_dest_the_old_files_go_with_the_delivery_of_the_new():
    files = Files(keys=keys_of(2))
    files.until(1.0)
    files.edit(sites(dest="/out/{{ name }}.conf"))
    files.until(5.0)
    assert files.names() == ["0.conf", "1.conf"]
    assert len(files.batches) == 2
    assert sorted(files.batches[1]) == ["v:/out/0", "v:/out/1", "v:0", "v:1"]


def test_the_files_of_a_resource_that_is_removed_stay_and_one_of_another_name_takes_them_over():
    files = Files(keys=keys_of(2))
    files.until(1.0)
    files.edit()
    assert files.names() == ["0", "1"]
    files.edit(replace(sites(), name="w", file="w.toml"))
    files.until(5.0)
    files.put(**{"1": None})
    files.until(9.0)
    assert files.names() == ["0"]


def test_a_file_that_was_equal_already_is_not_confpys_to_remove():
    files = Files(keys=keys_of(2))
    files.files["/out/1"] = b"[('/app/1', '1')]"
    files.until(1.0)
    files.put(**{"1": None})
    files.until(5.0)
    assert files.names() == ["0", "1"]
    (left,) = files.events("item.left")
    assert left.fields["target"] == "/out/1"


def test_no_item_waits_for_the_first_try_of_one_that_is_removed():
    trial = {"check_cmd": "check all", "check_mode": "swap"}
    files = Files(sites(**trial), keys=keys_of(3))
    files.waits = ("resolve",)
    files.until(0.5)
    files.edit(sites("/app/[01]", **trial))
    files.waits = ()
    files.finish_jobs()
    files.until(2.0)
    assert files.names() == ["0", "1"]


def test_a_key_that_comes_back_before_its_file_is_removed_keeps_it():
    files = Files(keys=keys_of(2))
    files.until(1.0)
    files.waits = ("deliver",)
    files.put(**{"0": "2"})
    files.until(2.0)
    files.put(**{"0": None})
    files.until(3.0)
    files.put(**{"0": "3"})
    files.waits = ()
    files.finish_jobs()
    files.until(9.0)
    assert files.files["/out/0"] == b"[('/app/0', '3')]"


def test_a_removal_that_a_reload_rejects_is_put_back_and_tried_again_later():
    files = Files(sites(on_reload_failure="rollback", retry_refused=600.0), keys=keys_of(2))
    files.until(1.0)
    old = files.files["/out/0"]
    files.fails = {"reload"}
    files.restored = Restored(
        "reload",
        (Report("v:0", "changed", known=DeliveredState(old[:32], None)),),
        rejected={"v:0": ("", "/out/0", "aa")},
        owned=(OwnedFile("v:0", "v", "0", "/out/0", "/out/0", old[:32].hex()),),
    )
    files.waits = ("restore",)
    files.put(**{"0": None})
    files.until(2.0)
    assert files.names() == ["1"]
    files.files["/out/0"] = old
    files.fails, files.waits = set(), ()
    files.finish_jobs()
    files.until(60.0)
    assert files.names() == ["0", "1"], "not before retry_refused"
    files.until(3600.0)
    assert files.names() == ["1"]


def test_what_a_rollback_puts_back_that_an_earlier_process_had_removed_is_removed_again():
    files = Files(sites(on_reload_failure="rollback"), keys=keys_of(2))
    files.until(1.0)
    known = DeliveredState(b"old", None)
    owned = OwnedFile("v:9", "v", "9", "/out/9", "/out/9", known.digest.hex())
    files.restored = Restored("reload", (Report("v:9", "changed", known=known),), owned=(owned,))
    files.fails, files.waits = {"reload"}, ("restore",)
    files.put(**{"0": "2"})
    files.until(2.0)
    files.files["/out/9"] = b"old"
    files.fails, files.waits = set(), ()
    files.finish_jobs()
    files.until(60.0)
    assert files.names() == ["0", "1"]


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_one_changed_key_of_a_thousand_items_looks_at_as_few_as_one_of_ten():
    costs = []
    for size in (10, 1000):
        files = Files(keys=keys_of(size), history=True)
        files.until(30.0)
        assert (len(files.files), len(files.runs)) == (size, 1)
        step = files.agent.step
        files.step = lambda *messages, files=files, step=step: files.take(step(messages, files.now, files.time()))
        change = Changed(files._stream, Changes("/app", 2, {"/app/7": (2, "2")}))
        with counted() as looks:
            files.post(change)
            files.until(35.0)
        assert files.batches[-1] == ["v:7"]
        assert len(looks.objects) <= AT_MOST
        costs.append(looks.times)
    assert costs[0] == costs[1]


@pytest.mark.parametrize("checked", [{}, {"check_cmd": "check", "check_mode": "swap"}])
def test_a_start_looks_at_each_of_many_items_no_oftener_than_at_each_of_few(checked):
    costs = []
    for size in (50, 500):
        files = Files(sites(**checked), keys=keys_of(size))
        step = files.agent.step
        files.step = lambda *messages, files=files, step=step: files.take(step(messages, files.now, files.time()))
        with counted() as looks:
            files.until(30.0)
        assert len(files.files) == size
        costs.append(looks.times / size)
    assert costs[1] <= costs[0] * 1.05


# --- what others are told --------------------------------------------------------------------------------------------


def test_the_status_has_one_row_for_all_items_as_bad_as_the_worst_and_names_those_that_fail():
    files = Files(keys=keys_of(3))
    files.until(1.0)
    (row,) = files.agent.status().resources
    assert (row.name, row.state, row.items, row.failing) == ("v", "current", 3, ())
    files.bad = {"bad"}
    files.put(**{"1": "bad"})
    files.until(2.0)
    (row,) = files.agent.status().resources
    assert (row.state, row.failing, row.items) == ("failed", ("v:1",), 3)
    assert row.why.startswith("1 of 3 items: v:1: no")


def test_the_status_of_items_that_make_no_file_names_them():
    files = Files(keys={"/app/a": "1", "/app/.b": "1"})
    files.until(1.0)
    (row,) = files.agent.status().resources
    assert (row.state, row.failing, row.items) == ("failed", ("v:.b",), 2)
    assert row.why.startswith("1 of 2 items make no file: .b: no file can be called after this key")


def test_while_a_loss_is_suspect_the_row_says_so():
    files = Files(keys=keys_of(3))
    files.until(1.0)
    files.put(**dict.fromkeys("012"))
    files.until(3.0)
    (row,) = files.agent.status().resources
    assert (row.state, row.cause, row.items) == ("held", "keys suspect", 3)
