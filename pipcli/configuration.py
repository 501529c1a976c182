"""Mappings (from TOML, JSON) ⇄ frozen dataclasses: every name and type is checked, nothing is guessed."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass ``cls`` from nested mappings and lists.

    Fields may be int, float, bool, str, enums (by value), dataclasses, tuples, ``dict[str, …]``, and any of
    these or None. What is absent takes its default.

    Args:
        where: what to call ``values`` in an error, such as ``data``; empty at the top.

    Raises:
        ValueError: an unknown or missing name, a wrong type, or a value that the dataclass refuses.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    dot = f"{where}." if where else ""
    for name in values:
        if name not in fields:
            raise ValueError(f"unknown entry {dot}{name}: choose from {', '.join(fields)}")
    given = {name: _convert(hints[name], value, dot + name) for name, value in values.items()}
    for name, field in fields.items():
        no_default = field.default is field.default_factory is dataclasses.MISSING
        if no_default and name not in given:
            raise ValueError(f"missing entry {dot}{name}")
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def to_mapping(config: Any) -> dict[str, Any]:
    """The inverse of :func:`from_mapping`: nested dicts, lists, numbers and strings, ready for JSON."""
    plain = _plain(dataclasses.asdict(config))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # TOML has no null: an empty table stands for None where None is allowed.
        if type(None) in arguments and (value is None or value == {}):
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return _convert(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is {value!r}: it must be a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            kinds = [arguments[0]] * len(value)
        elif len(arguments) == len(value):
            kinds = list(arguments)
        else:
            raise ValueError(f"{where} has {len(value)} entries: it must have {len(arguments)}")
        pairs = zip(kinds, value, strict=True)
        return tuple(_convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}: it must be a table")
        key_hint, item_hint = arguments
        return {
            _convert(key_hint, key, where): _convert(item_hint, item, f"{where}.{key}")
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}: it must be a table")
        return from_mapping(typing.cast(type[Any], hint), value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            choices = ", ".join(str(member.value) for member in hint)
            raise ValueError(f"{where} is {value!r}: choose from {choices}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} is {value!r}: it must be of type {hint.__name__}")
    return value
