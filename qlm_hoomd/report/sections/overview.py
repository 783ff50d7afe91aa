"""What was run: sizes, realisations, settings, versions, failures. No arrays."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from qlm_hoomd.base.display import counted
from qlm_hoomd.report.markup import MAX_ROWS, N, details, join, note, paragraph, table
from qlm_hoomd.report.results import Results, Run, Section


def overview(results: Results) -> Section:
    """What was run: sizes, realisations, settings, versions, failures."""
    failing = {realisation.key for realisation, _ in results.failures}
    groups = [
        (preparation, size, planned)
        for preparation in results.preparations
        for size in results.sizes
        if (planned := results.planned(preparation, size))
    ]
    rows = [
        (
            *group,
            *(results.n_done(*group[:2], kind) for kind in results.stages),
            sum(key[:2] == group[:2] for key in failing),
        )
        for group in groups
    ]
    parts = [
        paragraph(
            "Stages: {}. Every realisation is an independent sample; each line counts those of one preparation and size "
            "that have been through each stage.",
            ", ".join(results.stages) or "none",
        ),
        table(["preparation", N, "planned", *results.stages, "failed"], rows, "Realisations"),
    ]
    n_planned = sum(planned for *_, planned in groups)
    n_done = sum(results.n_done(preparation, size) or 0 for preparation, size, _ in groups)
    if n_done < n_planned:
        parts.append(
            note(
                "This run is not finished: {} of {} realisations have been through all stages. The report is made from what "
                "was there.",
                n_done,
                n_planned,
            )
        )
    if len(results.runs) > 1:
        names = [
            (run.name, Markup("<code>{}</code>").format(run.hash), ", ".join(run.preparations), ", ".join(map(str, run.sizes)))
            for run in results.runs
        ]
        parts.append(table(["protocol", "hash", "preparations", N], names, "This report is made from several runs"))
        if any((run.protocol.get("analysis") or {}) != (results.protocol.get("analysis") or {}) for run in results.runs):
            parts.append(
                note("The settings of the analysis differ between the protocols. Those of {} count.", results.runs[0].name)
            )
    if results.strangers:
        parts.append(
            note(
                "{} realisations in this workspace were made with other settings. They are left out of everything.",
                results.strangers,
            )
        )
    if not results.realisations:
        parts.append(note("There is no realisation yet. Run the protocol (again) to make them."))
    parts.extend(_failures(results))
    for run in results.runs:
        caption = f"Settings of {run.name}"
        parts.append(details(caption, table(["part", "setting", "value"], _settings(results, run), caption)))
    if len(results.versions) > 1:
        parts.append(
            note("The realisations were made with {} different sets of versions, listed below.", len(results.versions))
        )
    parts.extend(
        paragraph("Made with {}.", ", ".join(f"{name} {version}" for name, version in versions.items()))
        for versions in results.versions
    )
    parts.extend(
        details(
            f"The whole protocol {run.name} ({run.hash})", Markup("<pre>{}</pre>").format(json.dumps(run.protocol, indent=2))
        )
        for run in results.runs
    )
    return Section("What was run", join(parts))


def _failures(results: Results) -> Iterator[Markup]:
    if not results.failures:
        return
    kinds = Counter((failure.stage, failure.error) for _, failure in results.failures)
    yield note(
        "{}: {}. The other realisations are unharmed.",
        counted(len(results.failures), "failure"),
        ", ".join(f"{n} × {error} in {stage}" for (stage, error), n in sorted(kinds.items())),
    )
    rows = [
        (*realisation.key, failure.stage, failure.error, failure.message)
        for realisation, failure in results.failures[:MAX_ROWS]
    ]
    listed = f"The first {MAX_ROWS} failures" if len(results.failures) > MAX_ROWS else "All failures"
    yield details(listed, table(["preparation", N, "realisation", "stage", "error", "message"], rows, listed))


def _settings(results: Results, run: Run) -> Iterator[tuple[str, str, Any]]:
    """(part of the protocol, setting, value); what is not set is left out."""
    protocol = run.protocol
    yield "protocol", "hash", Markup("<code>{}</code>").format(run.hash)
    yield "protocol", "root seed", str(protocol.get("seed", "–"))
    yield from _rows("engine", protocol.get("engine"))
    yield "model", "number density", f"{results.density:g}"
    if results.dimensions != 3:
        yield "model", "dimensions", str(results.dimensions)
    for stage in protocol.get("stages", ()):
        name = f"stage {stage['kind']}"
        yield from list(_rows(name, {key: value for key, value in stage.items() if key != "kind"})) or [(name, "–", "defaults")]
    for name, preparation in run.preparations.items():
        yield from _rows(f"preparation {name}", preparation)
    if run is results.runs[0]:
        yield from list(_rows("analysis", protocol.get("analysis"))) or [("analysis", "–", "defaults")]


def _rows(part: str, settings: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """A row for each setting that has a value, those within settings after the name of these."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _rows(part, value, f"{prefix}{'.' * bool(prefix)}{name}")
    elif isinstance(settings, list | tuple):
        if settings:
            yield part, prefix or "–", ", ".join(_plain(value) for value in settings)
    elif settings is not None:
        yield part, prefix or "–", _plain(settings)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, Mapping | list) else str(value)
