"""The command line. It parses, calls and prints; all logic is in the modules that it calls.

Imports stand inside the commands: `qlm --help` must not wait for numerical libraries.
"""

# One file: a command is a few lines that parse, call and print; `qlm --help` shows them by the panels that stand here.

from __future__ import annotations

import errno
import inspect
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from qlm_hoomd.base.errors import InputError, PluginError, QlmError
from qlm_hoomd.base.interrupt import interruptible
from qlm_hoomd.base.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polars import DataFrame

    from qlm_hoomd.ensemble.workspace import Workspace

_MAX_REASONS_SHOWN = 20
_RESUMES = "qlm_hoomd.resumes"
"""In the context's ``meta``: set by what the same command goes on with when it was interrupted."""


class _Commands(TyperGroup):
    """Turns the errors that are meant for the user into one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with interruptible((signal.SIGINT,)):
                return super().invoke(ctx)
        except QlmError as error:
            _complain(str(error))
            raise typer.Exit(2 if isinstance(error, (InputError, PluginError)) else 1) from None
        except KeyboardInterrupt as stop:
            kept = " What is finished is kept; the same command goes on from there." if ctx.meta.get(_RESUMES) else ""
            _complain(f"interrupted.{kept}")
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None
        except OSError as error:
            if error.filename is not None or error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}:
                raise
            _complain(f"the output cannot be written ({error.strerror}); expected a terminal, pipe or file that takes it.")
            # What is still to be written would fail once more, with a traceback, at the end of the interpreter.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)

_GLASSES = "Make glasses and analyse them"
_FILES = "Analyse what you have"
_KEEP = "Plan, keep and share a run"
_ABOUT = "About this installation"
_Function = TypeVar("_Function", bound=Callable[..., None])
_CheckpointInterval = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Time between two checkpoints of a long stage.",
        show_default="QLM_CHECKPOINT_INTERVAL of the environment, or 600",
    ),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs, and nothing else.")]


def _command(panel: str, example: str, name: str | None = None) -> Callable[[_Function], _Function]:
    """Register a command with its docstring as help, under the heading ``panel``, with an example in both lists."""

    def register(function: _Function) -> _Function:
        first, *more = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        first = " ".join(first.split())
        return app.command(
            name,
            rich_help_panel=panel,
            short_help=f"{first}\n$ {example}",
            help="\n\n".join((first, *more, f"Example:\n$ {example}")),
        )(function)

    return register


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

    First steps, in this order:
      $ qlm doctor                         what is installed and will be used
      $ qlm new quickstart                 writes quickstart.yaml, commented
      $ qlm run quickstart.yaml --dry-run  what it will do, take and fill
      $ qlm run quickstart.yaml            runs it, or goes on; then reports
      $ qlm status runs/quickstart         how far it is
      $ qlm modes FILE.gsd                 needs no protocol: a file of yours

    `qlm COMMAND --help` says more of each command.

    Exit codes: 0 done; 1 some realisations or frames failed, or are no solid,
    and the rest is kept; 2 the input is wrong; 129, 130, 138 or 143 stopped by SIGHUP, Ctrl-C, SIGUSR1 or
    SIGTERM, with the state saved.
    """


def _templates(incomplete: str) -> list[str]:
    from qlm_hoomd.protocol.templates import names

    return [name for name in names() if name.startswith(incomplete)]


def _executors(incomplete: str) -> list[str]:
    from qlm_hoomd.base.registry import EXECUTORS

    return [name for name in EXECUTORS.plugins if name.startswith(incomplete)]


def _potentials(incomplete: str) -> list[str]:
    from qlm_hoomd.base.registry import POTENTIALS

    return [name for name in POTENTIALS.plugins if name.startswith(incomplete)]


@_command(_GLASSES, "qlm new quickstart --out first.yaml")
def new(
    template: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEMPLATE]", help="What to start from; without it, the templates are listed.", autocompletion=_templates
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The new file.", show_default="TEMPLATE.yaml")
    ] = None,
) -> None:
    """Write a protocol from a template, with every key explained. A file that is there is never overwritten."""
    from qlm_hoomd.protocol import templates

    if template is None:
        if out is not None:
            raise InputError(f"--out {out} without a template; expected one of: {', '.join(templates.names())}.")
        _table(("template", "what it is"), [(name, templates.summary(name)) for name in templates.names()])
        return
    path = templates.write(template, out)
    typer.echo(f"wrote {path}; `qlm run {path} --dry-run` shows what it will do, `qlm run {path}` does it")


@_command(_GLASSES, "qlm run quickstart.yaml --workers 4")
def run(
    context: typer.Context,
    protocol: Annotated[Path, typer.Argument(metavar="PROTOCOL", help="Protocol file (YAML).", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/<name of the protocol>")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what it would do, and the time and disk space that takes; writes nothing."),
    ] = False,
    executor: Annotated[
        str,
        typer.Option(help="What spreads the realisations; `qlm plugins` lists the executors.", autocompletion=_executors),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Realisations at work at a time.", show_default="one per core")
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE|FILE",
            help="Setting of --executor slurm, or a YAML file of them; repeatable.",
            show_default=False,
        ),
    ] = None,
    alongside: Annotated[
        bool,
        typer.Option("--alongside", help="Put it into a folder that holds a protocol of other physics, or of other glasses."),
    ] = False,
    checkpoint_interval: _CheckpointInterval = None,
) -> None:
    """Run a protocol and report on it. Run it again to resume: what is done is skipped, what failed is tried again.

    Several may run in one folder at once, on machines that share it: each realisation is computed once.
    """
    from qlm_hoomd.base.registry import EXECUTORS
    from qlm_hoomd.ensemble.runner import run_protocol
    from qlm_hoomd.protocol import load_protocol

    given: dict[str, Any] = {"settings": tuple(slurm or ()), "checkpoint_interval": checkpoint_interval}
    made = EXECUTORS.load(executor)(
        workers=workers, **{name: value for name, value in given.items() if value not in ((), None)}
    )
    settings = load_protocol(protocol)
    directory = out or Path("runs") / settings.name
    if dry_run:
        from qlm_hoomd.planning.forecast import make_forecast

        _show(make_forecast(settings, directory, made, alongside=alongside, progress=_say).report())
        return
    context.meta[_RESUMES] = True
    workspace = run_protocol(settings, directory, made, alongside=alongside)
    states = [realisation.state(settings) for realisation in workspace.realisations]
    if "done" in states and made.runs_here:
        typer.echo(_report(workspace.directory))
    if "pending" in states:
        typer.echo(
            f"{states.count('pending')} of {len(states)} realisations are not done yet: see `qlm status {workspace.directory}`."
        )
    if "failed" in states:
        _name_failures(workspace)
        raise typer.Exit(1)


@_command(_GLASSES, "qlm status runs/quickstart")
def status(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)],
    as_json: _AsJson = False,
) -> None:
    """Show how far a run is."""
    from qlm_hoomd.ensemble.progress import duration
    from qlm_hoomd.ensemble.status import status_of

    state = status_of(directory)
    if as_json:
        _print_json(state)
        return
    typer.echo(f"{state['name']} in {directory} (protocol {state['protocol_hash']})")
    if state["imported"]:
        typer.echo("imported: the tables of what was done elsewhere; configurations stayed there")
    _name_missing(state["missing"])

    def cell(stage: dict[str, Any]) -> str:
        each = "" if stage["core_seconds_each"] is None else f" ({duration(stage['core_seconds_each'])} each)"
        parts = [
            f"{stage[word]} {word}{each if word == 'done' else ''}" for word in ("done", "failed", "pending") if stage[word]
        ]
        return ", ".join(parts) or "-"

    _table(
        ("N", "preparation", *state["groups"][0]["stages"], "core time left"),
        [
            (
                str(group["n_particles"]),
                group["preparation"],
                *(cell(stage) for stage in group["stages"].values()),
                "unknown" if (seconds := group["core_seconds_left"]) is None else duration(seconds),
            )
            for group in state["groups"]
        ],
    )
    for line in [*state["scheduler"], *(f"at work: {line}" for line in state["at_work"])]:
        typer.echo(line)
    if state["failures"]:
        from qlm_hoomd.ensemble.workspace import Workspace

        _name_failures(Workspace.read(directory))


@_command(_KEEP, "qlm plan quickstart.yaml --target-error theta=0.1")
def plan(
    protocol: Annotated[
        Path, typer.Argument(metavar="PROTOCOL|DIR", help="Protocol file (YAML), or the folder of a run.", show_default=False)
    ],
    target_error: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=HALF_WIDTH",
            help="Half the width that the 95 % interval of theta or alpha is to have, e.g. theta=0.05; may be given twice.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run.", show_default="runs/<name of the protocol>, or DIR")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Where nothing has run, run small realisations elsewhere to see what they take."),
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """How many realisations of each size an exponent of a given error needs, and what they cost here.

    From the scatter and the times of what has run so far; where nothing has, from the theory. The folder is only read.
    """
    from qlm_hoomd.ensemble.workspace import Workspace
    from qlm_hoomd.planning.plan import make_plan, parse_targets
    from qlm_hoomd.protocol import load_protocol

    of_run = protocol.is_dir()
    made = make_plan(
        Workspace.open(protocol).protocol if of_run else load_protocol(protocol),
        protocol if of_run and out is None else out,
        parse_targets(target_error),
        measure=measure,
        progress=_say,
    )
    if as_json:
        _print_json(made.to_dict())
        return
    _show(made.report())


@_command(_KEEP, "qlm verify runs/quickstart")
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)],
    aside: Annotated[
        bool, typer.Option("--set-aside", help="Rename damaged files to NAME.damaged, so that the next run makes them again.")
    ] = False,
) -> None:
    """Prove that every file of a run is as it was written, or name those that are not."""
    from qlm_hoomd.ensemble.archive import verify_import
    from qlm_hoomd.ensemble.integrity import set_aside
    from qlm_hoomd.ensemble.integrity import verify as prove
    from qlm_hoomd.ensemble.workspace import IMPORTED, Workspace

    workspace = Workspace.read(directory)
    _name_missing(workspace.missing)
    if (directory / IMPORTED).exists():
        findings = verify_import(directory)
        typer.echo(f"{directory} was imported: what was packed is {'not ' if findings else ''}as it was")
        edited: dict[str, dict[str, int]] = {}
    else:
        proof = prove(workspace)
        findings, edited = proof.findings, proof.edited
        typer.echo(f"{proof.n_files} files ({proof.n_bytes / 1e6:.3g} MB) are as they were written")
        if proof.n_untold:
            typer.echo(f"note: of {proof.n_untold} files an earlier version did not record what they were made from")
    for version, codes in edited.items():
        numbers = ", ".join(f"{number} files by {code}" for code, number in codes.items())
        typer.echo(f"note: the code of version {version} was edited in between: {numbers}")
    if findings:
        _complain(f"{len(findings)} files or folders are not as they were written:")
        for finding in findings:
            typer.echo(f"  {finding.kind}: {finding.path}: {finding.text}", err=True)
        if aside and not (directory / IMPORTED).exists():
            for path in set_aside(proof):
                typer.echo(f"set aside: {path}")
        raise typer.Exit(1)


@_command(_KEEP, "qlm export runs/quickstart --out quickstart.zip")
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.zip", help="The archive.", show_default="NAME.zip")
    ] = None,
) -> None:
    """Report, and pack tables, protocol, exponents, versions, citation and checksums for publication."""
    from qlm_hoomd.ensemble.archive import export_run
    from qlm_hoomd.ensemble.workspace import Workspace

    name = Workspace.open(directory).protocol.name
    typer.echo(_report(directory))
    out = out or Path(f"{name}.zip")
    target = export_run(directory, out if out.suffix else out.with_suffix(".zip"))
    typer.echo(f"wrote {target} ({target.stat().st_size / 1e6:.2g} MB)")


@_command(_KEEP, "qlm import quickstart.zip copy", "import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="What `qlm export` wrote.", show_default=False)],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
) -> None:
    """Read back what `qlm export` packed, for `qlm report` and your own eyes."""
    from qlm_hoomd.ensemble.archive import import_run

    import_run(file, directory)
    typer.echo(f"imported into {directory}; `qlm report {directory}` makes its report")


def _ids(text: str | None) -> list[str]:
    if text is None:
        return []
    if Path(text).is_file():
        return Path(text).read_text(encoding="utf-8", errors="replace").split()
    return [part for part in text.replace(",", " ").split() if part]


@_command(_KEEP, "qlm work runs/quickstart --ids ids.txt --workers 4")
def work(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)],
    realisations: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of realisations.", show_default=False)
    ] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="FILE|ID,ID", help="Ids, or a file with one on each line.", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Realisations at work at a time.")] = 1,
    checkpoint_interval: _CheckpointInterval = None,
) -> None:
    """Do what is left to do of some realisations of a run: what schedulers call.

    Any number may be at work in one folder; what is done, or at work elsewhere, is passed over. Stopped by SIGUSR1 or SIGTERM it
    saves its state and ends with exit code 138 or 143; the same command goes on from there.
    """
    from qlm_hoomd.ensemble.local import LocalExecutor
    from qlm_hoomd.ensemble.runner import run_chunk

    context.meta[_RESUMES] = True
    executor = LocalExecutor(workers, checkpoint_interval=checkpoint_interval)
    failed = run_chunk(directory, [*(realisations or ()), *_ids(ids)], executor, typer.echo)
    if failed:
        raise typer.Exit(1)


@_command(_GLASSES, "qlm report runs/quickstart")
def report(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of runs; several make one report.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the report.", show_default="DIR/results; needed with several DIR"),
    ] = None,
) -> None:
    """Write tables, exponents, figures and report.html, from what is done so far.

    Several runs make one report where they are preparations of one glass: their preparations have different names, and their
    models agree. The settings of the analysis are then those of the first.
    """
    typer.echo(_report(*directories, out=out))


@_command(_FILES, "qlm modes trajectory.gsd --potential kob_andersen:q=2")
def modes(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File of a glass: GSD, or what a reader knows.", show_default=False)
    ],
    potential: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Pair potential: a name, name:key=value,... or a YAML file (a potential or a protocol). `qlm plugins` "
            "lists them.",
            autocompletion=_potentials,
        ),
    ] = "inverse_power_law",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Modes of each frame, from the softest up.")] = 20,
    frames: Annotated[str, typer.Option(metavar="A:B", help="Frames from A to before B; A:, :B, or one frame.")] = ":",
    every: Annotated[int, typer.Option(min=1, metavar="M", help="Every M-th of these frames.")] = 1,
    types: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Types of the file in the order of the potential.",
            show_default="its names, or the file's order",
        ),
    ] = None,
    ignore_diameters: Annotated[
        bool, typer.Option("--ignore-diameters", help="Take particles of one type as one size, whatever the file says.")
    ] = False,
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
    table_format: Annotated[
        str, typer.Option("--format", metavar="parquet|csv", help="Of the tables that are written.")
    ] = "parquet",
    workers: Annotated[int, typer.Option(min=1, help="Frames at work at a time.")] = 1,
    relax_limit: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="SECONDS", help="Time after which a frame that still falls has failed.", show_default="none"
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all columns; the files have them in any case.")] = False,
) -> None:
    """Lowest vibrational modes and elastic moduli of the frames of a file: GSD, LAMMPS, extended XYZ, or what ASE reads.

    Writes the tables modes and moduli, and modes.gsd, where OVITO shows the modes as velocity vectors (tick the box beside
    Velocity under Visual elements). Frames that are not at a minimum are relaxed first, and the output says so.

    Each frame is kept as it is finished: interrupt it whenever you like, and the same command goes on.

    Printed of each mode: omega, the participation ratio e and N e, lambda = omega^2, and kappa, the third derivative along it.
    """
    import polars as pl

    from qlm_hoomd.frames import frames_from_text
    from qlm_hoomd.postanalysis import modes_of_file
    from qlm_hoomd.protocol.potential_spec import potential_from_spec

    context.meta[_RESUMES] = True
    analysis = modes_of_file(
        file,
        potential=potential_from_spec(potential),
        k=k,
        frames=frames_from_text(frames, every),
        types=None if types is None else tuple(name.strip() for name in types.split(",")),
        ignore_diameters=ignore_diameters,
        as_is=as_is,
        remove_rattlers=remove_rattlers,
        force_tolerance=force_tolerance,
        relax_limit=relax_limit,
        out=Path(f"{file.stem}-modes") if out is None else out,
        table_format=table_format,  # type: ignore[arg-type]  # checked there
        view=view,
        workers=workers,
        progress=_say,
    )
    of_frames, of_modes = analysis.moduli, analysis.modes
    if not everything:
        of_frames = of_frames.select(
            "frame", "strain", "relaxation", "rattlers", pl.col("negative_modes").alias("negative"),
            pl.col("shear_modulus").alias("G"), pl.col("bulk_modulus").alias("K"),
        )  # fmt: skip
        e = pl.col("participation_ratio")
        held = pl.col("n_particles") - pl.col("rattlers") * pl.col("rattlers_removed").cast(pl.Int32)
        of_modes = of_modes.join(analysis.moduli.select("frame", held.alias("held")), on="frame", maintain_order="left").select(
            "frame", "index", pl.col("frequency").alias("omega"), e.alias("e"), (e * pl.col("held")).alias("N e"),
            pl.col("eigenvalue").alias("lambda"), "kappa",
        )  # fmt: skip
    _print(of_frames)
    if len(of_frames) == 1:
        _print(of_modes.drop("frame"))
    for path in analysis.files:
        typer.echo(f"wrote {path}")
    for frame, why in analysis.no_solids.items():
        _complain(f"frame {frame}: this is no solid: {why}. Is it the potential of these particles? The numbers are kept.")
    if analysis.failures:
        _complain(f"{len(analysis.failures)} frames failed, the others are kept: {', '.join(map(str, analysis.failures))}")
    if analysis.failures or analysis.no_solids:
        raise typer.Exit(1)


@_command(_FILES, "qlm convert glass.lammpstrj glass.gsd --frames -1")
def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File of a glass, of any format that a reader knows.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new file; its suffix names the format.", show_default=False)],
    frames: Annotated[str, typer.Option(metavar="A:B", help="Frames from A to before B; A:, :B, or one frame.")] = ":",
    every: Annotated[int, typer.Option(min=1, metavar="M", help="Every M-th of these frames.")] = 1,
) -> None:
    """Write frames of a file in another format: GSD in double precision, a LAMMPS data file, or extended XYZ.

    All digits are kept. Velocities go along, so that a mode of modes.gsd can be taken elsewhere.
    """
    from qlm_hoomd.formats.convert import WRITTEN
    from qlm_hoomd.formats.convert import convert as write
    from qlm_hoomd.frames import frames_from_text

    for note in write(file, out, frames_from_text(frames, every)):
        _say(note)
    typer.echo(f"wrote {out}: {WRITTEN[out.suffix]}")


@_command(_ABOUT, "qlm plugins")
def plugins(as_json: _AsJson = False) -> None:
    """List the plugins by group, with the distribution that each comes from."""
    from qlm_hoomd.base.registry import listing

    rows = listing()
    if as_json:
        _print_json(rows)
        return
    _table(
        ("group", "name", "object", "distribution", "state"),
        [(row["group"], row["name"], row["object"], row["distribution"], row["error"] or "ok") for row in rows],
    )


@_command(_ABOUT, "qlm schema > protocol.schema.json")
def schema() -> None:
    """Print the JSON Schema of protocols, installed plugins included: editors check and complete with it."""
    from qlm_hoomd.protocol import schema as protocol_schema

    _print_json(protocol_schema())


@_command(_ABOUT, "qlm doctor")
def doctor(as_json: _AsJson = False) -> None:
    """Say what is installed, and which engine will be used and why."""
    from qlm_hoomd.doctor import examine

    findings = examine()
    if as_json:
        _print_json({
            "version": __version__,
            "well": all(finding.well for finding in findings),
            "findings": [finding._asdict() for finding in findings],
        })  # fmt: skip
        return
    for finding in findings:
        mark = _coloured("ok  ", "green") if finding.well else _coloured("note", "yellow")
        typer.echo(f"{mark} {finding.subject}: {finding.fact}")


def _report(*directories: Path, out: Path | None = None) -> str:
    from qlm_hoomd.report import make_report

    return f"report: {make_report(*directories, out=out)}"


def _name_missing(missing: Iterable[str]) -> None:
    for problem in missing:
        typer.echo(f"note: {problem} What is finished is told from the records of the files; `qlm run` needs that plugin")


def _name_failures(workspace: Workspace) -> None:
    from qlm_hoomd.ensemble.progress import grouped_failures

    groups = grouped_failures(workspace)
    n_failed = sum(group.number for group in groups)
    _complain(
        f"{n_failed} of {len(workspace.realisations)} realisations failed; the same command tries them again. By reason, "
        "with an example each:"
    )
    for group in groups[:_MAX_REASONS_SHOWN]:
        typer.echo(f"  {group}", err=True)
    if len(groups) > _MAX_REASONS_SHOWN:
        typer.echo(f"  and {len(groups) - _MAX_REASONS_SHOWN} more reasons", err=True)


def _complain(message: str) -> None:
    typer.echo(f"{_coloured('qlm:', 'red', err=True)} {message}", err=True)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _coloured(text: str, colour: str, *, err: bool = False) -> str:
    """``text`` in a colour where it goes to a terminal that wants colours (https://no-color.org)."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return typer.style(text, fg=colour)


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def _show(parts: Iterable[str | tuple[Iterable[str], Iterable[Sequence[str]]]]) -> None:
    """Paragraphs and tables in turn."""
    for part in parts:
        if isinstance(part, str):
            typer.echo(part)
        else:
            _table(*part)


def _print(table: DataFrame) -> None:
    _table(
        table.columns, [[f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.iter_rows()]
    )


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns side by side; on a terminal those that find no room follow below, with the first column again."""
    table = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    room = shutil.get_terminal_size().columns if _is_terminal() else sys.maxsize
    blocks = [[0]]
    for column in range(1, len(widths)):
        if len(blocks[-1]) > 1 and sum(widths[each] + 2 for each in (*blocks[-1], column)) - 2 > room:
            blocks.append([0])
        blocks[-1].append(column)
    for block in blocks:
        for row in table:
            typer.echo("  ".join(row[column].ljust(widths[column]) for column in block).rstrip())
