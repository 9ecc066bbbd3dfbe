"""Values: what they promise is what frozen dataclasses with slots promise."""

from __future__ import annotations

import copy
import pickle
from threading import Barrier, Thread
from types import FunctionType
from typing import ClassVar

import pytest

from confpy.frozen import UNCOMPILED, define, field, fields, frozen, replace


@frozen
class Point:
    """One on a plane."""

    corners: ClassVar[int] = 0

    x: int
    y: int
    name: str = ""

    def up(self) -> Point:
        return replace(self, y=self.y + 1)


@frozen
class Pixel:
    x: int
    y: int
    name: str = ""


@frozen
class Empty:
    pass


@frozen
class One:
    only: object


def test_fields_are_given_by_place_or_by_name_and_some_have_defaults():
    assert fields(Point(1, y=2)) == {"x": 1, "y": 2, "name": ""}
    assert fields(Point(1, 2, name="a")) == {"x": 1, "y": 2, "name": "a"}
    assert fields(Empty()) == {}


@pytest.mark.parametrize("given", [{}, {"x": 1}, {"x": 1, "y": 2, "z": 3}])
def test_too_little_or_too_much_is_refused(given):
    with pytest.raises(TypeError, match="argument"):
        Point(**given)


def test_nothing_is_set_or_deleted_or_added():
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="Point is frozen: x"):
        point.x = 3
    with pytest.raises(AttributeError, match="Point is frozen: z"):
        point.z = 3
    with pytest.raises(AttributeError, match="Point is frozen: x"):
        del point.x
    assert not hasattr(point, "__dict__")
    assert point == Point(1, 2)


def test_equal_are_those_of_one_class_that_hold_the_same():
    assert Point(1, 2) == Point(1, 2, "")
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 2) != Pixel(1, 2)
    assert Point(1, 2) != (1, 2, "")
    assert Empty() == Empty()
    assert One(1) != 1


def test_a_value_that_is_not_equal_to_itself_is_found_where_it_stands():
    nan = float("nan")
    assert One(nan) == One(nan)


def test_equal_values_are_one_key():
    assert {Point(1, 2): "a", Point(1, 2): "b", One(1): "c", Empty(): "d"} == {
        Point(1, 2): "b",
        One(1): "c",
        Empty(): "d",
    }
    with pytest.raises(TypeError, match="unhashable"):
        hash(One([]))


def test_it_shows_what_it_holds():
    assert repr(Point(1, 2, "a")) == "Point(x=1, y=2, name='a')"
    assert repr(Empty()) == "Empty()"


def test_replace_changes_what_is_named_and_nothing_else():
    point = Point(1, 2, "a")
    assert replace(point, y=3) == Point(1, 3, "a")
    assert point.up() == Point(1, 3, "a")
    assert point == Point(1, 2, "a")
    with pytest.raises(TypeError, match="z"):
        replace(point, z=1)


def described(value):
    match value:
        case Pixel():
            return "pixel"
        case Point(0, y):
            return f"on the axis at {y}"
        case Point(name="origin" | "here"):
            return "named"
        case One(Point(x=x)):
            return f"one with {x}"
    return "else"


def test_it_is_matched_by_class_place_and_name():
    values = [Pixel(0, 1), Point(0, 5), Point(1, 1, "here"), One(Point(7, 1)), Point(1, 1), Empty()]
    assert [described(one) for one in values] == [
        "pixel",
        "on the axis at 5",
        "named",
        "one with 7",
        "else",
        "else",
    ]


@pytest.mark.parametrize("value", [Point(1, 2, "a"), Empty(), One([1])])
def test_it_is_copied_and_pickled(value):
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


def test_what_belongs_to_the_class_is_no_field():
    assert Point.corners == Point(1, 2).corners == 0


def test_a_method_that_a_class_writes_itself_is_kept():
    @frozen
    class Loose:
        name: str

        def __eq__(self, other):
            return isinstance(other, Loose) and self.name.lower() == other.name.lower()

        def __hash__(self):
            return hash(self.name.lower())

    assert Loose("A") == Loose("a")
    assert len({Loose("A"), Loose("a")}) == 1


def test_a_class_with_fields_has_no_subclasses():
    with pytest.raises(TypeError, match="no subclasses"):
        type("Line", (Point,), {})


def test_threads_may_make_the_first_ones_of_a_class_at_once():
    @frozen
    class Fresh:
        number: int
        name: str = "a"

    start, made = Barrier(8), []

    def make(number):
        start.wait()
        made.append((Fresh(number), hash(Fresh(number)), Fresh(number) == Fresh(number)))

    threads = [Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {value for value, _, _ in made} == {Fresh(number) for number in range(8)}
    assert all(same and hashed == hash(value) for value, hashed, same in made)


# --- records that change ---------------------------------------------------------------------------------------------


@define
class Basket:
    owner: str
    items: list[str] = field(default_factory=list)
    size: int = 3


def test_a_record_can_be_changed_and_has_no_other_fields():
    basket = Basket("a")
    basket.size = 5
    basket.items.append("x")
    assert (basket.owner, basket.items, basket.size) == ("a", ["x"], 5)
    with pytest.raises(AttributeError):
        basket.colour = "red"


def test_a_default_that_is_made_is_made_for_each():
    one, other = Basket("a"), Basket("b")
    one.items.append("x")
    assert other.items == []
    assert Basket("c", ["y"]).items == ["y"]
    assert Basket("d", size=1).size == 1


def test_a_record_is_equal_to_itself_only_and_shows_what_it_holds():
    one, other = Basket("a"), Basket("a")
    assert one == one  # noqa: PLR0124 - that is the promise
    assert one != other
    assert len({one, other}) == 2
    assert repr(one) == "Basket(owner='a', items=[], size=3)"


def test_a_record_has_no_subclasses():
    with pytest.raises(TypeError, match="no subclasses"):
        type("Crate", (Basket,), {})


def test_a_class_does_the_same_before_and_after_its_methods_are_compiled():
    @frozen
    class Local:
        x: int
        y: int = 2

    @define
    class Record:
        x: int
        found: list[int] = field(default_factory=list)

    compiled = []
    for number in range(3 * UNCOMPILED):
        one = Local(number)
        assert fields(one) == fields(Local(x=number, y=2)) == {"x": number, "y": 2}
        assert one == Local(number, 2) != Local(number, 3)
        assert one != number
        assert hash(one) == hash(Local(number))
        record, other = Record(number), Record(number, [1])
        assert (record.found, other.found) == ([], [1])
        assert record.found is not Record(number).found
        compiled.append([type(vars(cls)["__init__"]) for cls in (Local, Record)])
    assert compiled[0] != [FunctionType] * 2
    assert compiled[-1] == [FunctionType] * 2


@pytest.mark.parametrize(
    "given", [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1, "z": 1})]
)
def test_a_first_call_with_other_arguments_is_refused_as_by_a_function(given):
    @frozen
    class Local:
        x: int
        y: int = 2

    positional, named = given
    with pytest.raises(TypeError, match=r"__init__\(\) (missing|takes|got)"):
        Local(*positional, **named)
    assert fields(Local(1)) == {"x": 1, "y": 2}
