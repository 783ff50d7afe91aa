"""A protocol that changes: what may grow in a folder, what must not mix with it, and what is taken over."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.checkpoint import kept_path
from qlm_hoomd.base.display import counted
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import replacing
from qlm_hoomd.ensemble.realisation import CHECKSUMS
from qlm_hoomd.ensemble.workspace import Workspace, former_protocol, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from qlm_hoomd.ensemble.realisation import Realisation
    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages.base import Stage

_MAX_SHOWN = 5


def begin(protocol: Protocol, directory: Path, *, alongside: bool = False) -> Workspace:
    """The workspace for a run of ``protocol`` in ``directory``, with what an earlier protocol left there taken over.

    Args:
        protocol: what is to be run.
        directory: the folder; it may hold a run already, and others may be at work in it.
        alongside: whether a protocol of other physics, or of other glasses, may be put beside the one that the folder holds.

    Raises:
        InputError: if the folder cannot be written to, holds a signac project of another version, imported tables, or a
            protocol of other physics or other glasses.
        StorageFull: if the disk is full, or a quota is reached.
    """
    former = former_protocol(directory)
    if former is not None:
        check(former, protocol, directory, alongside=alongside)
    if former is None or former.hash == protocol.hash:
        return Workspace.create(protocol, directory)
    workspace = Workspace(directory, protocol)
    with writing(directory):
        workspace.lay_out()
        take_over(Workspace(directory, former), workspace)
        # Last: whoever is killed before finds the former protocol again, and takes over what is left.
        workspace.store_protocol()
    return workspace


def check(former: Protocol, protocol: Protocol, directory: Path, *, alongside: bool) -> None:
    """Refuse a protocol of other physics than the one that ``directory`` holds, unless it is to be put ``alongside``.

    So is one that leaves glasses out which are there already, by another seed, another setting of a preparation or smaller
    numbers: they would be gone from status and report.

    Raises:
        InputError: with what differs.
    """
    if alongside:
        return
    if not is_growth(former, protocol):
        raise InputError(
            f"{directory} holds realisations of other physics: {_changes(_physics(former), _physics(protocol))}. Expected the "
            "same model, engine and stages, of which only strains may be added. Choose another folder with --out, or keep both "
            "in this one with --alongside."
        )
    wanted = {_identity(point) for point in protocol.statepoints()}
    left_out = [each for each in Workspace(directory, former).realisations if _identity(each.statepoint) not in wanted]
    n_worked_at = sum(_is_worked_at(realisation) for realisation in left_out)
    if n_worked_at:
        raise InputError(
            f"{directory} holds {counted(n_worked_at, 'realisation')} that this protocol does not ask for: "
            f"{_changes(_glasses(former), _glasses(protocol))}. Expected the same seed and preparations, and all sizes and "
            "realisations that are there; more may be added. Choose another folder with --out, or keep both in this one with "
            "--alongside; status and report then show the last."
        )


def _is_worked_at(realisation: Realisation) -> bool:
    with suppress(FileNotFoundError):
        return any(path.name != "signac_statepoint.json" for path in realisation.directory.iterdir())
    return False


def is_growth(former: Protocol, protocol: Protocol) -> bool:
    """Whether ``protocol`` asks for all that ``former`` did, and for more: more strains in its stages, or more stages."""
    if former.model != protocol.model or former.engine != protocol.engine:
        return False
    stages = {stage.kind: stage for stage in protocol.stages}
    return all(
        stage.kind in stages and _grew(stage, stages[stage.kind]) for stage in former.stages
    )  # fmt: skip


def kept_stages(former: Protocol, protocol: Protocol) -> list[Stage]:
    """The stages whose products in a realisation of ``former`` are what ``protocol`` would make.

    Their settings are the same, and so are those of all the stages whose products they read: random streams depend on
    realisation and stage alone.
    """
    return _kept_and_further(former, protocol)[0]


def _kept_and_further(former: Protocol, protocol: Protocol) -> tuple[list[Stage], list[Stage]]:
    """:func:`kept_stages`, and the stages that are to go further than in ``former`` on the same inputs."""
    if former.model != protocol.model or former.engine != protocol.engine:
        return [], []
    before = {stage.kind: stage for stage in former.stages}
    kept: list[Stage] = []
    further: list[Stage] = []
    at_hand: set[str] = set()
    for stage in protocol.stages:
        earlier = before.get(stage.kind)
        if earlier is None or not at_hand.issuperset(stage.requires()):
            continue
        if earlier == stage:
            kept.append(stage)
            at_hand.update(stage.products())
        elif _grew(earlier, stage):
            further.append(stage)
    return kept, further


def take_over(former: Workspace, workspace: Workspace) -> int:
    """Give the realisations of ``workspace`` what those of ``former`` have already; nothing is removed there.

    These are products; of stages that are not done, or are to go further, the state from which they go on.

    Returns:
        Number of realisations that were given something.
    """
    kept, further = _kept_and_further(former.protocol, workspace.protocol)
    if not kept and not further:
        return 0
    before = {stage.kind: stage for stage in former.protocol.stages}
    sources = {_identity(realisation.statepoint): realisation for realisation in former.realisations}
    number = 0
    for realisation in workspace.realisations:
        source = sources.get(_identity(realisation.statepoint))
        if source is None:
            continue
        products = [stage for stage in kept if not realisation.has_products(stage) and source.is_done(stage)]
        states = {}
        for stage in (*kept, *further):
            if stage not in products and not realisation.is_done(stage) and not realisation.checkpoint(stage).exists():
                path = source.checkpoint(stage)
                path = kept_path(path) if source.is_done(before[stage.kind]) else path
                if path.is_file():
                    states[path] = realisation.checkpoint(stage)
        if not products and not states:
            continue
        claim = workspace.claims.take(realisation.id)
        if claim is not None:  # else another run does the same
            with claim:
                for stage in products:
                    _take_over_stage(source, realisation, stage)
                for path, target in states.items():
                    with suppress(FileNotFoundError):  # a process at work there has come to its end
                        _link(path, target)
            number += 1
    return number


def _link(source: Path, target: Path) -> None:
    """The same file under another name: products and checkpoints are replaced, never changed."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            shutil.copyfile(source, temporary)


def _take_over_stage(source: Realisation, realisation: Realisation, stage: Stage) -> None:
    kind = stage.kind
    entries = {name: entry | {"from": source.id} for name, entry in source.recorded.items() if entry.get("stage") == kind}
    # The products last: with them the stage is done.
    for name in sorted(entries.keys() | set(stage.products()), key=lambda name: name in stage.products()):
        target = realisation.directory / name
        if (source.directory / name).is_file() and not target.exists():
            _link(source.directory / name, target)
    if entries:
        entries = realisation.recorded | entries
        with replacing(realisation.directory / CHECKSUMS) as temporary:
            temporary.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", encoding="utf-8")
    cost = source.costs().get(kind)
    if cost is not None:
        realisation.record_cost(stage, cost["cpu_s"], cost["wall_s"])


def _identity(statepoint: Mapping[str, Any]) -> str:
    """What a realisation is, but for its protocol."""
    return json.dumps({key: value for key, value in statepoint.items() if key != "protocol_hash"}, sort_keys=True)


def _grew(former: Stage, stage: Stage) -> bool:
    """Whether the settings of a stage are the same, but for more of those that only say how far it goes."""
    if type(former) is not type(stage):
        return False
    names = type(stage).model_fields
    return all(
        getattr(former, name) == getattr(stage, name)
        or (name in stage.growing and _is_more(getattr(former, name), getattr(stage, name)))
        for name in names
    )


def _is_more(before: Any, after: Any) -> bool:
    if isinstance(before, tuple) and isinstance(after, tuple):
        return set(before) <= set(after)
    number = (int, float)
    return isinstance(before, number) and isinstance(after, number) and after >= before


def _physics(protocol: Protocol) -> dict[str, Any]:
    settings = protocol.model_dump(mode="json", include={"model", "engine", "stages"})
    return settings | {"stages": {stage["kind"]: stage for stage in settings["stages"]}}


def _glasses(protocol: Protocol) -> dict[str, Any]:
    return protocol.model_dump(mode="json", include={"seed", "ensemble"})


def _changes(before: Any, after: Any) -> str:
    """What differs, in words, and no more than a reader bears."""
    changes = list(_differences(before, after, ""))
    more = f"; and {len(changes) - _MAX_SHOWN} more" if len(changes) > _MAX_SHOWN else ""
    return "; ".join(changes[:_MAX_SHOWN]) + more


def _differences(before: Any, after: Any, place: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            where = f"{place}.{key}" if place else str(key)
            if key not in after:
                yield f"{where} is gone"
            elif key not in before:
                yield f"{where} is new"
            else:
                yield from _differences(before[key], after[key], where)
    elif before != after:
        yield f"{place} was {_short(before)} and is {_short(after)}"
    elif not place:  # the stages are the same, in another order
        yield "the order of the stages"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
