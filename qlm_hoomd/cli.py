"""The command line. It parses, calls and prints; all logic is in the modules that it calls.

Imports stand inside the commands: `qlm --help` must not wait for numerical libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from qlm_hoomd import __version__
from qlm_hoomd.errors import InputError, PluginError, QlmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polars import DataFrame

    from qlm_hoomd.ensemble.workspace import Workspace

_MAX_FAILURES_SHOWN = 20


class _Commands(TyperGroup):
    """Turns the errors that are meant for the user into one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except QlmError as error:
            _complain(str(error))
            raise typer.Exit(2 if isinstance(error, (InputError, PluginError)) else 1) from None
        except KeyboardInterrupt:
            _complain("interrupted. What is finished is kept; the same command goes on from there.")
            raise typer.Exit(130) from None


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of the ``qlm`` command."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qlm_hoomd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Quasi-localised modes and plastic instabilities of computer glasses.

    Exit codes: 0 done; 1 some realisations failed (the rest is kept); 2 the input is wrong.
    """


@app.command()
def run(
    protocol: Annotated[Path, typer.Argument(metavar="PROTOCOL", help="Protocol file (YAML).", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/<name of the protocol>")] = None,
    executor: Annotated[str, typer.Option(help="What spreads the realisations; `qlm plugins` lists the executors.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Realisations at work at a time.", show_default="one per core")
    ] = None,
) -> None:
    """Run a protocol and report on it. Run it again to resume: what is done is skipped, what failed is tried again."""
    from qlm_hoomd.ensemble.runner import run_protocol
    from qlm_hoomd.protocol import load_protocol
    from qlm_hoomd.registry import EXECUTORS

    made = EXECUTORS.load(executor)(workers=workers)
    settings = load_protocol(protocol)
    workspace = run_protocol(settings, out or Path("runs") / settings.name, made)
    states = [realisation.state(settings) for realisation in workspace.realisations]
    if "done" in states:
        typer.echo(_report(workspace.directory))
    if "pending" in states:
        typer.echo(
            f"{states.count('pending')} of {len(states)} realisations are not done yet: see `qlm status {workspace.directory}`."
        )
    if "failed" in states:
        _name_failures(workspace)
        raise typer.Exit(1)


@app.command()
def status(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)]) -> None:
    """Show how far a run is."""
    from qlm_hoomd.ensemble.workspace import Workspace

    workspace = Workspace.open(directory)
    typer.echo(f"{workspace.protocol.name} in {directory} (protocol {workspace.protocol.hash})")
    rows = [
        (str(n_particles), preparation, *(_cell(states) for states in stages.values()))
        for (n_particles, preparation), stages in workspace.counts().items()
    ]
    header = ("N", "preparation", *(next(iter(workspace.counts().values()))))
    _table(header, rows)
    for line in workspace.running().values():
        typer.echo(f"at work: {line}")
    if workspace.failures():
        _name_failures(workspace)


@app.command()
def report(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)]) -> None:
    """Write DIR/results: tables, exponents, figures and report.html, from what is done so far."""
    typer.echo(_report(directory))


@app.command()
def modes(
    file: Annotated[Path, typer.Argument(metavar="FILE.gsd", help="GSD file of a glass.", show_default=False)],
    potential: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Pair potential: a name, name:key=value,... or a YAML file (a potential or a protocol). `qlm plugins` lists them.",
        ),
    ] = "inverse_power_law",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Modes of each frame, from the softest up.")] = 20,
    frames: Annotated[str, typer.Option(metavar="A:B", help="Frames from A to before B; A:, :B, or one frame.")] = ":",
    every: Annotated[int, typer.Option(min=1, metavar="M", help="Every M-th of these frames.")] = 1,
    types: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Types of the file in the order of the potential.", show_default="the file's order"),
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Refuse frames that are not at rest, instead of relaxing them.")
    ] = False,
    remove_rattlers: Annotated[
        bool, typer.Option("--remove-rattlers", help="Leave out particles that have fewer than four contacts.")
    ] = False,
    force_tolerance: Annotated[float, typer.Option(min=1e-13, help="Largest force of a frame that is at rest.")] = 1e-8,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the results.", show_default="FILE-modes")] = None,
    view: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="INDEX",
            help="Also draw this mode of the first frame, as PNG and as a page in 3D.",
            show_default="none",
        ),
    ] = None,
) -> None:
    """Lowest vibrational modes and elastic moduli of the frames of a GSD file, HOOMD-blue's or another's.

    Writes modes.parquet, moduli.parquet and modes.gsd, where OVITO shows the modes as velocity vectors. Frames that are not at
    a minimum are relaxed first, and the output says so.
    """
    from qlm_hoomd.postanalysis import frames_from_text, modes_of_file, potential_from_spec

    analysis = modes_of_file(
        file,
        potential=potential_from_spec(potential),
        k=k,
        frames=frames_from_text(frames, every),
        types=None if types is None else tuple(name.strip() for name in types.split(",")),
        as_is=as_is,
        remove_rattlers=remove_rattlers,
        force_tolerance=force_tolerance,
        out=Path(f"{file.stem}-modes") if out is None else out,
        view=view,
        progress=lambda line: typer.echo(line, err=True),
    )
    _print(analysis.moduli.select(
        "frame", "strain", "relaxation", "rattlers", "negative_modes", "zero_modes", "shear_modulus", "bulk_modulus", "energy"
    ))  # fmt: skip
    if len(analysis.moduli) == 1:
        _print(analysis.modes.drop("frame", "relaxed", "strain"))
    for path in analysis.files:
        typer.echo(f"wrote {path}")
    if analysis.failures:
        _complain(f"{len(analysis.failures)} frames failed, the others are kept: {', '.join(map(str, analysis.failures))}")
        raise typer.Exit(1)


@app.command()
def plugins() -> None:
    """List the plugins by group, with the distribution that each comes from."""
    from qlm_hoomd.registry import GROUPS

    rows = []
    for group in GROUPS:
        _, broken = group.load_all()
        for name, plugin in group.plugins.items():
            state = str(broken[name]) if name in broken else "ok"
            rows.append((group.name, name, plugin.entry_point.value, plugin.distribution, state))
    _table(("group", "name", "object", "distribution", "state"), rows)


@app.command()
def schema() -> None:
    """Print the JSON Schema of protocols, installed plugins included: editors check and complete with it."""
    import json

    from qlm_hoomd.protocol import schema as protocol_schema

    typer.echo(json.dumps(protocol_schema(), indent=2))


@app.command()
def doctor() -> None:
    """Say what is installed, and which engine will be used and why."""
    from qlm_hoomd.doctor import examine

    for finding in examine():
        typer.echo(f"{'ok  ' if finding.well else 'note'} {finding.subject}: {finding.fact}")


def _report(directory: Path) -> str:
    from qlm_hoomd.report import make_report

    return f"report: {make_report(directory)}"


def _name_failures(workspace: Workspace) -> None:
    failures = workspace.failures()
    _complain(f"{len(failures)} of {len(workspace.realisations)} realisations failed; the same command tries them again:")
    for realisation, failure in failures[:_MAX_FAILURES_SHOWN]:
        record = realisation.directory / "failed" / f"{failure.stage}.json"
        typer.echo(f"  {realisation.label}, stage {failure.stage}: {failure.error}: {failure.message} ({record})", err=True)
    if len(failures) > _MAX_FAILURES_SHOWN:
        typer.echo(f"  and {len(failures) - _MAX_FAILURES_SHOWN} more", err=True)


def _complain(message: str) -> None:
    typer.echo(f"qlm: {message}", err=True)


def _print(table: DataFrame) -> None:
    _table(
        table.columns, [[f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.iter_rows()]
    )


def _cell(states: dict[Any, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in states.items() if number) or "-"


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    table = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
