"""From the errors that pydantic finds in a protocol to one sentence each: line, fact, expectation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from qlm_hoomd.base.errors import did_you_mean
from qlm_hoomd.base.settings import expectation
from qlm_hoomd.protocol.facts import Location, short
from qlm_hoomd.protocol.models import schema
from qlm_hoomd.protocol.yaml import line_of

_MAX_PROBLEMS = 20


def problems_of(error: ValidationError, settings: Any, lines: Mapping[Location, int]) -> list[tuple[int | None, str]]:
    """Line and sentence of each problem, in the order of the file, each once, and no more than a reader bears."""
    details = sorted(_true_ones(error, settings), key=lambda detail: line_of(_locate(detail["loc"], settings)[0], lines) or 0)
    problems = [_problem(detail, settings, lines) for detail in details[:_MAX_PROBLEMS]]
    if len(details) > _MAX_PROBLEMS:
        problems.append((None, f"{len(details) - _MAX_PROBLEMS} more problems; correct these first."))
    return list(dict.fromkeys(problems))


def _true_ones(error: ValidationError, settings: Any) -> list[dict[str, Any]]:
    """Pydantic's errors without those that only follow from others or from the form of a model.

    A list whose items are wrong is for pydantic also too short, and a value of a union is wrong once for each member.
    """
    details: list[dict[str, Any]] = [dict(detail) for detail in error.errors(include_url=False)]
    places = [_locate(detail["loc"], settings)[0] for detail in details]
    kept: list[dict[str, Any]] = []
    of_union: dict[Location, dict[str, Any]] = {}
    for detail, place in zip(details, places, strict=True):
        kind = detail["type"]
        if kind == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue
        if kind == "literal_error" or kind.endswith("_type"):
            if any(len(other) > len(place) and other[: len(place)] == place for other in places):
                continue
            if place in of_union:
                of_union[place]["msg"] += f" or {expectation(detail['msg'])}"
                continue
            of_union[place] = detail
        kept.append(detail)
    return kept


def _problem(detail: Mapping[str, Any], settings: Any, lines: Mapping[Location, int]) -> tuple[int | None, str]:
    """Line and sentence of one of pydantic's errors."""
    kind, context = detail["type"], detail.get("ctx", {})
    place, found = _locate(detail["loc"], settings)
    where = _dotted(place)
    if kind == "missing" and place[-1:] != (detail["loc"][-1],):
        name = detail["loc"][-1]
        description = _properties(place, settings).get(str(name), {}).get("description", "a value")
        text = (
            f"{where} {_shown(_value_at(place, settings))}, which needs more than its name: {name} is missing; expected "
            f"{description}"
        )
    elif kind == "missing":
        description = _properties(place[:-1], settings).get(str(place[-1]), {}).get("description", "a value")
        text = f"{where} is missing; expected {description}"
    elif kind in {"extra_forbidden", "invalid_key", "unexpected_keyword_argument"}:
        known = list(_properties(place[:-1], settings))
        expected = f"expected one of: {', '.join(known)}" if known else "expected no such key (qlm schema lists the keys)"
        text = f"unknown key '{short(place[-1])}' in {_dotted(place[:-1])}; {expected}.{did_you_mean(place[-1], known)}"
    elif kind == "fact":
        text = f"{where if found else _dotted(place[:-1])}: {context['message']}"
    elif kind in {"value_error", "assertion_error"}:
        text = f"{where}: {context.get('error', detail['msg'])}"
    elif kind in {"too_short", "too_long"}:
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        text = f"{where} has {context['actual_length']} entries; expected {bound}"
    else:
        subject = f"key '{short(place[-1])}' of {_dotted(place[:-1])}" if "[key]" in detail["loc"] else where
        text = f"{subject} {_shown(detail['input'])}; expected {expectation(detail['msg'])}"
        if kind == "literal_error":
            meant = did_you_mean(detail["input"], re.findall(r"'([^']*)'", context["expected"]))
            text += f".{meant}" if meant else ""
    return line_of(place, lines), text if text.endswith((".", "?")) else text + "."


def _locate(location: Location, settings: Any) -> tuple[Location, bool]:
    """The place in the file that an error's location means, and whether there is a value.

    Pydantic's locations also name branches of unions and markers such as ``[key]``, which the file does not contain.
    """
    place: list[str | int] = []
    value = settings
    for position, key in enumerate(location):
        last = position == len(location) - 1
        if isinstance(value, dict):
            named = key if key in value else next((name for name in value if str(name) == str(key)), None)
            if named is not None:
                place.append(named)
                value = value[named]
                continue
            if last and key != "[key]":
                place.append(key)
                return tuple(place), False
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            place.append(key)
            value = value[key]
    return tuple(place), True


def _value_at(place: Location, settings: Any) -> Any:
    for key in place:
        settings = settings[key]
    return settings


def _properties(place: Location, settings: Any) -> dict[str, Any]:
    """The keys that the schema knows of the mapping at ``place``, with their schemas."""
    return dict(described(place, settings, schema()).get("properties", {}))


def described(place: Location, settings: Any, document: dict[str, Any]) -> dict[str, Any]:
    """What the schema ``document`` says of the mapping at ``place``; empty where it knows none."""
    node: Any = document
    value = settings
    for key in place:
        node = _resolved(node, value, document)
        if isinstance(value, dict):
            node = node.get("properties", {}).get(key) or node.get("additionalProperties") or {}
            value = value.get(key)
        else:
            node = node.get("items", {})
            value = value[key] if isinstance(value, list) and isinstance(key, int) else None
    return _resolved(node, {"kind": value} if isinstance(value, str) else value, document)


def _resolved(node: Any, value: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """The object schema behind references and unions that suits ``value``; empty where there is none."""
    while isinstance(node, dict):
        if "$ref" in node:
            node = document["$defs"][node["$ref"].rpartition("/")[2]]
        elif "discriminator" in node:
            kind = value.get("kind", node.get("default", {}).get("kind")) if isinstance(value, dict) else None
            node = {"$ref": reference} if (reference := node["discriminator"]["mapping"].get(kind)) else {}
        elif "anyOf" in node or "oneOf" in node:
            options = [_resolved(option, value, document) for option in node.get("anyOf") or node["oneOf"]]
            wanted = "object" if isinstance(value, dict) else "array"
            return next((option for option in options if option.get("type") == wanted), {})
        else:
            return node
    return {}


def _dotted(place: Location) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{short(key)}" for key in place).removeprefix(".")
    return text or "the protocol"


def _shown(value: Any) -> str:
    if value is None:
        return "is empty"
    if isinstance(value, dict):
        return "is a mapping"
    if isinstance(value, (list, tuple)):
        return "is a list"
    return f"= {short(json.dumps(value) if isinstance(value, (bool, int, float)) else repr(value))}"
