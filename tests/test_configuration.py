"""Mappings ⇄ frozen dataclasses: what fits is converted, what does not is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from pipcli.configuration import from_mapping, to_mapping


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Wheel:
    spokes: int = 8
    size: float = 1.0

    def __post_init__(self) -> None:
        if self.spokes < 3:
            raise ValueError(f"spokes is {self.spokes}: it must be at least 3")


@dataclass(frozen=True)
class Cart:
    name: str
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    axle: tuple[int, float] = (1, 2.0)
    paint: dict[Colour, int] = field(default_factory=dict)
    covered: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


FULL = {
    "name": "hay",
    "wheels": [{"spokes": 5}, {"size": 2}],
    "spare": {"spokes": 6},
    "axle": [3, 4],
    "paint": {"red": 2},
    "covered": True,
    "notes": {"any": ["thing", 1]},
}


def test_everything_is_converted():
    cart = from_mapping(Cart, FULL)
    assert cart == Cart(
        name="hay",
        wheels=(Wheel(5), Wheel(size=2.0)),
        spare=Wheel(6),
        axle=(3, 4.0),
        paint={Colour.RED: 2},
        covered=True,
        notes={"any": ["thing", 1]},
    )
    assert isinstance(cart.axle[1], float)
    assert isinstance(cart.wheels[1].size, float)


def test_what_is_absent_takes_its_default():
    assert from_mapping(Cart, {"name": "bare"}) == Cart("bare")


@pytest.mark.parametrize("nothing", [None, {}])
def test_none_and_an_empty_table_both_stand_for_none(nothing):
    assert from_mapping(Cart, {"name": "x", "spare": nothing}).spare is None


def test_round_trip_through_json():
    cart = from_mapping(Cart, FULL)
    assert from_mapping(Cart, json.loads(json.dumps(to_mapping(cart)))) == cart


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, ["unknown entry colour", "name, wheels"]),
        ({"spare": {"bell": 1}}, ["unknown entry spare.bell"]),
        ({"wheels": [{}, {"spokes": 2}]}, ["wheels[1]", "spokes is 2"]),
        ({"wheels": [{"spokes": "five"}]}, ["wheels[0].spokes is 'five'", "int"]),
        ({"wheels": {"spokes": 5}}, ["wheels is", "list"]),
        ({"wheels": [5]}, ["wheels[0] is 5", "table"]),
        ({"axle": [1]}, ["axle has 1 entries", "2"]),
        ({"axle": [1, 2, 3]}, ["axle has 3 entries", "2"]),
        ({"axle": [1.5, 2]}, ["axle[0] is 1.5", "int"]),
        ({"axle": [True, 2]}, ["axle[0] is True", "int"]),
        ({"axle": [1, True]}, ["axle[1] is True", "float"]),
        ({"paint": {"green": 1}}, ["paint is 'green'", "red, blue"]),
        ({"paint": {"red": 1.5}}, ["paint.red is 1.5", "int"]),
        ({"paint": 3}, ["paint is 3", "table"]),
        ({"covered": 1}, ["covered is 1", "bool"]),
        ({"name": 3}, ["name is 3", "str"]),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(ValueError, match=r".") as caught:
        from_mapping(Cart, {**FULL, **change})
    for word in words:
        assert word in str(caught.value)


def test_a_missing_entry_is_named():
    with pytest.raises(ValueError, match="missing entry name"):
        from_mapping(Cart, {})
    with pytest.raises(ValueError, match=r"missing entry cart\.name"):
        from_mapping(Cart, {}, "cart")
