"""The bench's arithmetic, its table, its charts, and the page that is made of its figures."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from xml.etree import ElementTree as ET

import pytest

from tests.bench import page, soak
from tests.bench.bench import QUICK, Sizes
from tests.bench.clients import Delay, less_the_put
from tests.bench.confdirs import SERVERS, Confdir
from tests.bench.figures import FLOOR, Figures, Summary, growth, summary
from tests.bench.fleet import extrapolated
from tests.bench.parts import PARTS
from tests.bench.plots import Axis, apart, chart, span
from tests.bench.programs import Program, peers
from tests.bench.report import pretty, update
from tests.bench.rows import Row, cell, of_parts, shown, unit
from tests.bench.table import table

RATIO = Row("part", "what", "a.wall", "confd", 0.5)


def figures(**subjects: list[float]) -> Figures:
    found = Figures()
    for subject, samples in subjects.items():
        found.add("a.wall", subject, *samples)
    return found


def test_a_summary_has_the_median_the_quartiles_and_the_extremes():
    assert summary([5, 1, 2, 4, 3]) == Summary(3, 2, 4, 1, 5, 5)
    assert summary([7]) == Summary(7, 7, 7, 7, 7, 1)


def test_a_row_is_the_quotient_of_medians_and_is_met_where_it_is_small_enough():
    found = cell(figures(confpy=[1, 2, 3], confd=[4, 4, 10]), RATIO, "confpy")
    assert (found.value, found.met, found.bound) == (0.5, True, "")
    assert cell(figures(confpy=[3], confd=[4]), RATIO, "confpy").met is False
    assert cell(figures(confpy=[3]), RATIO, "confpy").value is None


@pytest.mark.parametrize(
    ("slow", "own", "value", "bound", "met"),
    [("confd", 10.0, 0.1, "<", True), ("confd", 90.0, 0.9, "<", None), ("confpy", 50.0, 2.0, ">", False)],
)
def test_a_program_that_did_not_finish_in_time_gives_a_bound(slow, own, value, bound, met):
    found = figures(**({"confpy": [own]} if slow == "confd" else {"confd": [own]}))
    found.fail("a.wall", slow, "did not finish in 100 s", 100.0)
    of = cell(found, RATIO, "confpy")
    assert (of.value, of.bound, of.met) == (value, bound, met)


def test_a_program_that_broke_gives_no_value():
    found = figures(confpy=[1])
    found.fail("a.wall", "confd", "ended with 1")
    assert cell(found, RATIO, "confpy").value is None


def test_a_straight_line_grows_by_one_whatever_the_start_costs():
    assert growth([7 + 3 * size for size in (1, 100, 10_000)], (1, 100, 10_000)) == pytest.approx(1)
    assert growth([size**2 for size in (1, 100, 10_000)], (1, 100, 10_000)) > 50


def test_the_floor_is_taken_off_each_subject_but_itself():
    found = figures(confpy=[3], confd=[2], **{FLOOR: [1]})
    found.over_floor("a.wall", "b.wall")
    assert [found.median("b.wall", one) for one in ("confpy", "confd", FLOOR)] == [2, 1, None]


def test_a_latency_is_less_the_median_put():
    assert less_the_put([Delay(5, 1), Delay(7, 2), Delay(9, 60)]) == 5


def test_figures_are_the_same_after_json():
    found = figures(confpy=[1, 2], confd=[3])
    found.fail("b.wall", "confd", "did not finish in 9 s", 9)
    assert Figures.load(json.loads(json.dumps(found.as_json()))).as_json() == found.as_json()


@pytest.mark.parametrize(
    ("value", "of", "text"),
    [
        (0.00123, "s", "1.23 ms"), (2.345, "s", "2.35 s"), (3 * 2**20, "B", "3.0 MiB"), (300 * 2**20, "B", "300 MiB"),
        (12_345, "", "12345"), (0.8765, "", "0.876"),
    ],
)  # fmt: skip
def test_values_are_shown_with_three_digits_in_the_unit_that_suits_them(value, of, text):
    assert shown(value, of) == text


def test_every_part_has_a_row_and_every_row_a_part_and_a_meaning():
    rows = table(Sizes())
    assert {row.part for row in rows} == set(PARTS)
    assert [row.what for row in rows if not row.meaning] == []
    assert len({(row.what, row.over) for row in rows}) == len(rows)
    assert {unit(row.figure) for row in rows} == {"s", "B", ""}


def test_rows_are_chosen_by_part():
    assert {row.part for row in of_parts(table(QUICK), ["storm", "rest"])} == {"storm", "rest"}


@pytest.mark.parametrize("text", ["confd=/nowhere", "etcd=/bin/true", "/bin/true"])
def test_a_peer_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="--peer"):
        peers([text], None)


@pytest.mark.parametrize("kind", ["confpy", "confd", "consul-template"])
def test_a_confdir_says_what_its_files_have_to_be(tmp_path, kind):
    confdir = Confdir(tmp_path / "a", Program(kind, kind, ("program",)), 2, 2)
    changed = {confdir.key(1, 0): "x"}
    assert confdir.expected(1, changed) == "# 00001\n/svc/00001/0000=x\n/svc/00001/0001=1\n"
    assert not confdir.is_final(1, changed)
    confdir.target(1).write_text(confdir.expected(1, changed))
    assert confdir.is_final(1, changed)
    assert confdir.count() == 1


def test_a_server_of_haproxy_shows_its_mark(tmp_path):
    confdir = Confdir(tmp_path / "a", Program("confd", "confd", ("program",)), 1, 1, SERVERS)
    assert confdir.expected(0, {confdir.key(0, 0): "x"}).splitlines()[2] == "    server 0000 x:8080 weight 10 check"
    assert json.loads(SERVERS.value("x"))["host"] == "x"


def test_the_slope_of_a_straight_line_is_its_own():
    assert soak.slope([(x, 5 + 2 * x) for x in range(10)]) == pytest.approx(2)
    assert soak.slope([(1, 1)]) == 0


def test_a_soak_knows_what_is_wrong(tmp_path):
    for part in ("conf.d", "templates", "out"):
        (tmp_path / part).mkdir()
    world = soak.World(tmp_path, {"/soak/001/00": "a", "/soak/010/00": "b"})
    world.write(1, "# head")
    assert world.wrong() == [1]
    world.target(1).write_text("# head\n/soak/001/00=a\n")
    assert world.wrong() == []
    world.remove(1)
    assert list((tmp_path / "conf.d").iterdir()) == []


def test_a_fleet_is_extrapolated_without_what_etcd_takes_alone():
    found = {
        "number": 10, "etcd": {"memory_alone": 50, "memory": 60, "watchers": 10},
        "put": {"etcd_cpu": 0.1}, "start": {"etcd_cpu": 1},
        "rest": {"etcd_cpu_a_minute": 3, "etcd_cpu_a_minute_alone": 2},
    }  # fmt: skip
    more = extrapolated(found, 100)
    assert more["etcd_memory"] == 150
    assert more["etcd_cpu_a_minute_at_rest"] == 12
    assert more["etcd_watchers"] == 100


def test_json_is_written_over_its_own_part_alone(tmp_path):
    path = tmp_path / "a.json"
    update(path, {"soak": {"a": 1}})
    update(path, {"rows": [{"a": "x" * 70}, {"b": "x" * 70}]})
    assert json.loads(path.read_text()) == {"soak": {"a": 1}, "rows": [{"a": "x" * 70}, {"b": "x" * 70}]}
    assert len(pretty({"a": 1}).splitlines()) == 1


# --- charts ----------------------------------------------------------------------------------------------------------


def test_a_chart_is_well_formed_and_shows_each_line_by_name():
    series = {"confpy": [(1, 0.01), (10, 0.1), (1000, 2.0)], "a & b": [(1, 0.02), (1000, 9.0)]}
    svg = chart("Cost <of> it", Axis("resources", str), Axis("", str), series)
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"confpy", "a & b", "resources", "Cost <of> it"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 5


def test_powers_of_ten_are_equally_far_apart():
    scale = span([1, 1000], 0, 300)
    assert [scale.at(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert scale.ticks() == [1, 10, 100, 1000]


def test_an_axis_of_values_that_are_nearly_equal_has_ticks():
    for value in (0.0031, 41, 99_999):
        assert len(span([value, value * 1.01], 0, 100).ticks()) >= 2


def test_labels_do_not_hide_each_other():
    taken: list[float] = []
    for _ in range(4):
        taken.append(apart(100, taken))
    assert min(abs(one - other) for one in taken for other in taken if one is not other) >= 15


# --- the page --------------------------------------------------------------------------------------------------------

DATA = json.loads(page.DATA.read_text(encoding="utf-8"))


def test_the_page_fits_the_figures():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page(text, DATA), "run .venv/bin/python -m tests.bench.page"


def test_the_charts_fit_the_figures():
    made = page.images(DATA)
    assert {name: (page.IMAGES / name).read_text(encoding="utf-8") for name in made} == made
    for svg in made.values():
        ET.fromstring(svg)


def test_the_figures_of_a_run_make_a_whole_page():
    row = next(row for row in table(Sizes()) if row.over)
    found = Figures()
    found.add(row.figure, "confpy", 1.0)
    found.add(row.figure, row.over, 4.0)
    found.add("once.etcd.10x5.cpu", "confpy", 1.0)
    found.add("once.etcd.100x5.cpu", "confpy", 2.0)
    data = DATA | {"figures": found.as_json(), "programs": {"confpy": "1", row.over: "2"}, "sizes": asdict(Sizes())}
    assert f"| {row.what} | 1 s | {row.over}: 4 s | 0.25 |" in page.parts(data)["figures"]
    assert list(page.images(data)) == ["one-shot.svg"]


def test_no_path_of_a_machine_is_in_the_figures():
    assert re.findall(r'"/(?:home|root|tmp|work)/[^"]*"', page.DATA.read_text(encoding="utf-8")) == []
