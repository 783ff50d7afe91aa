"""A protocol from a file or from plain values, and what the schema says of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from qlm_hoomd.base.errors import ProtocolError
from qlm_hoomd.base.registry import STAGES
from qlm_hoomd.base.settings import OfKind
from qlm_hoomd.protocol.facts import Location
from qlm_hoomd.protocol.models import Analysis, Ensemble, Protocol, protocol_hash, schema
from qlm_hoomd.protocol.sentences import described, problems_of
from qlm_hoomd.protocol.yaml import read_yaml
from qlm_hoomd.stages.base import AbsentStage, Stage


def load_protocol(path: Path | str) -> Protocol:
    """The protocol in a YAML file.

    Raises:
        ProtocolError: with file, line, fact and expectation of every problem.
    """
    path = Path(path)
    settings, lines = read_yaml(path)
    return build_protocol(settings, path=path, lines=lines)


def build_protocol(
    settings: Mapping[str, Any], *, path: Path | None = None, lines: Mapping[Location, int] = MappingProxyType({})
) -> Protocol:
    """The protocol with these settings, e.g. a dictionary built in a script.

    Args:
        settings: plain values, as a YAML or JSON file gives them.
        path: the file they come from, for messages.
        lines: the line of each place in the file, for messages.

    Raises:
        ProtocolError: with fact and expectation of every problem.
    """
    try:
        return Protocol.model_validate(settings)
    except ValidationError as error:
        raise ProtocolError(path, problems_of(error, settings, lines)) from None


class _Stored(Protocol):
    """A protocol of which plugins are not installed: it has neither model nor engine."""

    stored_hash: str

    @property
    def hash(self) -> str:
        """That of the plain values."""
        return self.stored_hash


def stored_protocol(settings: Mapping[str, Any], path: Path) -> tuple[Protocol, tuple[str, ...]]:
    """The protocol of a folder that is only to be looked at, be it that plugins which it names are not installed.

    Args:
        settings: what ``protocol.json`` holds.
        path: that file, for messages.

    Returns:
        The protocol, with an :class:`~qlm_hoomd.stages.base.AbsentStage` for each stage that cannot be had, and what is missing,
        a sentence each.

    Raises:
        ProtocolError: if anything else is wrong with it.
    """
    try:
        return Protocol.model_validate(settings), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
        # What OfKind says of a name that it does not know, or that does not load.
        if any(each["type"] != "fact" or each["loc"][-1] != "kind" or not isinstance(each["input"], str) for each in details):
            raise ProtocolError(path, problems_of(error, settings, {})) from None
    of_kind = OfKind(STAGES, Stage, shorthand=True)
    lost = {each["loc"][1] for each in details if each["loc"][0] == "stages"}
    stages: list[Any] = [
        AbsentStage(kind=stage if isinstance(stage, str) else stage["kind"]) if index in lost else of_kind.validate(stage)
        for index, stage in enumerate(settings["stages"])
    ]
    protocol = _Stored.model_construct(
        name=settings["name"],
        seed=settings["seed"],
        ensemble=Ensemble.model_validate(settings["ensemble"]),
        stages=tuple(stages),
        analysis=Analysis.model_validate(settings.get("analysis", {})),
        stored_hash=protocol_hash(settings),
    )
    return protocol, tuple(dict.fromkeys(each["ctx"]["message"] for each in details))


def explain(path: Path) -> list[tuple[int, str, str]]:
    """What the schema says of the keys in a protocol file: line, key and description, in the order of the file.

    Names that the user chose, such as those of preparations, have no description and are left out; that of ``kind`` is the one
    of the kind that is chosen.

    Raises:
        ProtocolError: if the file is no YAML mapping.
    """
    settings, lines = read_yaml(path)
    document = schema()
    explained = []
    for place, line in lines.items():
        if place and isinstance(key := place[-1], str):
            found = described(place[:-1], settings, document)
            said = found if key == "kind" else found.get("properties", {}).get(key, {})
            if text := said.get("description", "").split("\n\n")[0]:
                explained.append((line, key, " ".join(text.replace("``", "`").split())))
    return sorted(explained, key=lambda entry: entry[0])
