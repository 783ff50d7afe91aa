"""The slurm executor: hands chunks of realisations to SLURM as job arrays of ``qlm work``.

Plain ``sbatch``, and no pickled functions: what a task runs is one command that anybody can type, and its script is a file that
anybody can read. A chunk is a file of ids, so that all state is on disk: which chunks were submitted, in the run's private
folder ``.slurm``; which of them SLURM still knows, in its queue, where jobs are found by name; what is done, in the products
alone.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qlm_hoomd.base.errors import InputError, QlmError, did_you_mean
from qlm_hoomd.base.files import replacing
from qlm_hoomd.ensemble.costs import seconds_left
from qlm_hoomd.ensemble.executor import Executor, work_command
from qlm_hoomd.ensemble.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qlm_hoomd.ensemble.realisation import Outcome

FOLDER = ".slurm"
"""In the folder of a run, readable by its owner alone: settings, and a folder for each array with its script, chunks and
logs."""
_WARNING_S = 120
# Exit code of a process that SIGUSR1 stopped, by the shells' convention.
_STOPPED = 138
_DEFAULT_MAX_ARRAY = 1001
_Hours = Annotated[float, Field(gt=0, le=24, allow_inf_nan=False)]


class SlurmSettings(BaseModel):
    """What `--slurm key=value` and the YAML file that `--slurm FILE` names may say. It is kept for the next submission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: str | None = Field(default=None, description="partition, as sbatch --partition")
    account: str | None = Field(default=None, description="account, as sbatch --account")
    qos: str | None = Field(default=None, description="quality of service, as sbatch --qos")
    time: str = Field(
        default="04:00:00", description="wall-time limit of a task, in any of sbatch's formats; tasks are requeued and go on"
    )
    mem: str | None = Field(
        default=None, description="memory of a task, as sbatch --mem, e.g. 8G; nothing: the cluster's default"
    )
    hours: _Hours = Field(default=1.5, description="hours that a chunk is meant to take; 0.5 to 4 suit most clusters")
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="GPUs of a task, as sbatch --gpus-per-node"
    )
    workers_per_gpu: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="realisations that share a GPU at a time; several pay below about N = 16000"
    )
    max_running: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="tasks that run at the same time, as --array=...%n"
    )
    max_array_size: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="in place of the cluster's MaxArraySize"
    )
    setup: tuple[str, ...] = Field(
        default=(), description="shell lines before the work, e.g. module load; a list in a YAML file"
    )
    extra: tuple[str, ...] = Field(
        default=(), description="more options of sbatch, e.g. --constraint=avx2; a list in a YAML file"
    )

    @property
    def seconds(self) -> float:
        """The wall-time limit [s]; sbatch takes minutes, M:S, H:M:S, D-H, D-H:M and D-H:M:S.

        Raises:
            ValueError: if it is none of these.
        """
        match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", self.time.strip())
        if match is None:
            raise ValueError(f"time '{self.time}'; expected a form that sbatch takes, e.g. 04:00:00 or 1-12:00:00")
        days, *fields = (None if text is None else int(text) for text in match.groups())
        first, second, third = fields
        if days is not None or third is not None:
            hours, minutes, seconds = first, second, third
        else:
            hours, minutes, seconds = 0, first, second
        return 86400.0 * (days or 0) + 3600 * (hours or 0) + 60 * (minutes or 0) + (seconds or 0)


class SlurmExecutor(Executor):
    """Submits job arrays and returns; what is queued or running already is not submitted again.

    Args:
        workers: realisations that a task has at work at a time, one core each; None for one, or for all that its GPUs take.
        settings: ``key=value`` texts and YAML files of :class:`SlurmSettings`; what they leave out is as it was at the last
            submission.
        checkpoint_interval: see :class:`Executor`.
    """

    runs_here: ClassVar[bool] = False

    def __init__(
        self, workers: int | None = None, settings: Sequence[str] = (), *, checkpoint_interval: float | None = None
    ) -> None:
        super().__init__(workers, checkpoint_interval=checkpoint_interval)
        self._given = _parse(settings)
        _settings(self._given)

    def run(self, directory: Path, ids: Sequence[str], finished: Callable[[Outcome], None]) -> None:
        """See :meth:`Executor.run`.

        Raises:
            InputError: if SLURM's commands are not here, or settings are wrong.
            QlmError: if SLURM does not answer, or refuses an array.
        """
        if shutil.which("sbatch") is None:
            raise InputError(
                "sbatch is not here; expected to run on a machine from which SLURM takes jobs. Try --executor local."
            )
        directory = directory.resolve()
        workspace = Workspace.open(directory)
        folder = directory / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        claim = workspace.claims.take("slurm-submission")
        if claim is None:
            raise QlmError(f"another `qlm run` is submitting from {directory} at the moment; try again when it has ended.")
        with claim:
            settings = _settings(_stored(folder) | self._given)
            with replacing(folder / "settings.json") as temporary:
                temporary.write_text(settings.model_dump_json(indent=2, exclude_defaults=True) + "\n", encoding="utf-8")
            asks_for_gpus = settings.gpus_per_node or any("gpu" in option for option in settings.extra)
            if workspace.protocol.engine.wants_gpu and not asks_for_gpus:
                sys.stderr.write(
                    "note: the engine runs on a GPU, and the tasks ask for none; --slurm gpus_per_node=1 does, or an option of "
                    "your site, e.g. --slurm extra=--gres=gpu:1.\n"
                )
            waiting = queue(directory).ids() | workspace.claims.live().keys()
            wanted = set(ids) - waiting
            realisations = [each for each in workspace.realisations if each.id in wanted]
            realisations.sort(key=lambda realisation: -realisation.n_particles)
            workers = self.workers or max(1, settings.gpus_per_node * settings.workers_per_gpu)
            hours = min(settings.hours, 0.75 * settings.seconds / 3600)
            made = chunks(seconds_left(workspace, realisations), workers, 3600 * hours)
            if waiting & set(ids):
                sys.stderr.write(f"{len(waiting & set(ids))} realisations are queued or at work already\n")
            size = settings.max_array_size or _max_array_size() if made else 1
            for start in range(0, len(made), size):
                sys.stderr.write(self._submit(directory, made[start : start + size], settings, workers) + "\n")

    def _submit(self, directory: Path, made: Sequence[Sequence[str]], settings: SlurmSettings, workers: int) -> str:
        """Submit one array; its folder and the name of its job are the same, by which it is found again."""
        name = f"qlm-{secrets.token_hex(6)}"
        folder = directory / FOLDER / name
        folder.mkdir(mode=0o700)
        for index, ids in enumerate(made):
            (folder / f"{index}.ids").write_text("\n".join(ids) + "\n", encoding="ascii")
        text = script(directory, folder, len(made), settings, workers, self.checkpoint_interval)
        (folder / "script.sh").write_text(text, encoding="utf-8")
        try:
            answer = _call("sbatch", "--parsable", str(folder / "script.sh"))
        except QlmError as error:
            shutil.rmtree(folder)
            raise QlmError(
                f"{error} Nothing is lost: what was submitted before goes on; correct it and run the same command again."
            ) from None
        job = answer.strip().partition(";")[0]
        (folder / "job").write_text(job + "\n", encoding="ascii")
        n_realisations = sum(map(len, made))
        return f"submitted job {job}: {len(made)} tasks for {n_realisations} realisations; script and logs in {folder}"


@dataclass(frozen=True)
class Queue:
    """What SLURM knows of a run.

    Args:
        tasks: (folder of the array, index, state, reason) of every task in SLURM's queue.
        problem: why SLURM could not be asked; None if it could.
    """

    tasks: tuple[tuple[Path, int, str, str], ...]
    problem: str | None = None

    def ids(self, *states: str) -> set[str]:
        """Ids of the realisations in tasks of these states; in all tasks if none is given.

        Raises:
            QlmError: if SLURM could not be asked.
        """
        if self.problem is not None:
            raise QlmError(f"{self.problem} Nothing was submitted, as it is not known what is queued; try again later.")
        found: set[str] = set()
        for folder, index, state, _ in self.tasks:
            if not states or state in states:
                found.update(_read_ids(folder / f"{index}.ids"))
        return found


def queue(directory: Path) -> Queue:
    """What is in SLURM's queue of the run in ``directory``."""
    arrays = {folder.name: folder for folder in (directory / FOLDER).glob("qlm-*")}
    if not arrays:
        return Queue(())
    try:
        answer = _call("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%j|%K|%T|%r")
    except QlmError as error:
        return Queue((), str(error))
    tasks = []
    for line in answer.splitlines():
        name, index, state, reason = (*line.strip().split("|", 3), "", "", "")[:4]
        if name in arrays and index.isdecimal():
            tasks.append((arrays[name], int(index), state, reason))
    return Queue(tuple(tasks))


def describe(workspace: Workspace) -> list[str]:
    """Lines on what SLURM has of a run: queued, running, over without a result, and what keeps tasks waiting.

    None without SLURM.
    """
    directory = workspace.directory.resolve()
    submitted: set[str] = set()
    for path in (directory / FOLDER).glob("qlm-*/*.ids"):
        submitted |= _read_ids(path)
    if not submitted:
        return []
    known = queue(directory)
    states = {each.id: each.state(workspace.protocol) for each in workspace.realisations if each.id in submitted}
    open_ids = {job_id for job_id, state in states.items() if state == "pending"}
    if known.problem is not None:
        return [f"SLURM does not answer, so that it is not known what is queued: {known.problem}"]
    # What has left the queue is not in squeue's answer: it is over, whatever became of it.
    in_queue = Counter(state for _, _, state, _ in known.tasks)
    queued = known.ids("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT") if in_queue else set()
    running = (known.ids() - queued) if in_queue else set()
    lost = open_ids - queued - running - workspace.claims.live().keys()
    tasks = ", ".join(f"{number} {state.lower()}" for state, number in sorted(in_queue.items())) or "none in the queue"
    lines = [
        (
            f"slurm tasks: {tasks}; unfinished realisations in them: {len(queued & open_ids)} queued, "
            f"{len(running & open_ids)} running"
        )
    ]
    reasons = Counter(reason for _, _, state, reason in known.tasks if state == "PENDING")
    lines += [f"slurm: {number} tasks wait for: {reason}" for reason, number in reasons.most_common() if reason not in _USUAL]
    if lost:
        why = _fates(directory)
        lines.append(
            f"slurm lost {len(lost)} realisations: their tasks are over, and they are neither done nor failed"
            f"{f' ({why})' if why else ''}; `qlm run --executor slurm` submits them again"
        )
    return lines


def chunks(seconds: Mapping[str, float], workers: int, target: float) -> list[list[str]]:
    """Put realisations together, in the order given, until a chunk keeps ``workers`` processes busy for about ``target`` seconds.

    One that takes longer has a chunk of its own, but for those that share its task's processes.

    Args:
        seconds: time of each realisation [s], by its id.
        workers: processes of a task.
        target: wall time that a chunk is meant to take [s].
    """
    made: list[list[str]] = []
    filled = 0.0
    for job_id, time in seconds.items():
        if not made or (filled + time > target * workers and len(made[-1]) >= workers):
            made.append([])
            filled = 0.0
        made[-1].append(job_id)
        filled += time
    return made


_USUAL = frozenset({"None", "Priority", "Resources", "JobArrayTaskLimit", ""})


def script(
    directory: Path,
    folder: Path,
    n_tasks: int,
    settings: SlurmSettings,
    workers: int,
    checkpoint_interval: float | None = None,
) -> str:
    """The batch script of one array.

    The signal before the end of the wall time goes to the shell alone (``B:``), which hands it to the work and requeues the
    task when the work has saved its state.
    """
    limit = f"%{settings.max_running}" if settings.max_running else ""
    options: list[str] = [
        f"--job-name={folder.name}",
        f"--array=0-{n_tasks - 1}{limit}",
        f'--output="{str(folder).replace("%", "%%")}/%a.log"',
        "--open-mode=append",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={workers}",
        f"--time={settings.time}",
        f"--signal=B:USR1@{_WARNING_S}",
        "--requeue",
    ]
    options += [
        f"--{name}={value}" for name in ("partition", "account", "qos", "mem") if (value := getattr(settings, name)) is not None
    ]
    if settings.gpus_per_node:
        options.append(f"--gpus-per-node={settings.gpus_per_node}")
    options += settings.extra
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options), ""]
    lines += settings.setup
    if "PYTHONPATH" in os.environ:  # clusters may not pass the environment of the submission on
        lines.append(f"export PYTHONPATH={shlex.quote(os.environ['PYTHONPATH'])}")
    chunk = f'{shlex.quote(str(directory))} --ids {shlex.quote(str(folder))}/"$SLURM_ARRAY_TASK_ID".ids'
    lines += [
        f"{work_command(chunk, workers, checkpoint_interval)} &",
        "work=$!",
        "trap 'kill -USR1 \"$work\" 2>/dev/null' USR1",
        "trap 'kill -TERM \"$work\" 2>/dev/null' TERM",
        "# A trapped signal ends a wait early.",
        "while :; do",
        '    wait "$work"; code=$?',
        '    kill -0 "$work" 2>/dev/null || break',
        "done",
        f'if [ "$code" -eq {_STOPPED} ]; then',
        '    echo "the wall time is over: requeued, and goes on from there"',
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        "fi",
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _read_ids(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return set()


def _call(*command: str) -> str:
    """What a command of SLURM answers.

    Raises:
        QlmError: if it is not here, fails, or hangs.
    """
    line = " ".join(command[:1])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    except FileNotFoundError:
        raise QlmError(f"{line} is not here; expected a machine from which SLURM takes jobs.") from None
    except subprocess.TimeoutExpired:
        raise QlmError(f"{line} did not answer within two minutes.") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise QlmError(f"{line} failed: {said}.")
    return done.stdout


def _max_array_size() -> int:
    """The largest array that the cluster takes: indices are below its MaxArraySize."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(match[1])) if match else _DEFAULT_MAX_ARRAY


def _fates(directory: Path) -> str:
    """How tasks of the run ended, by SLURM's accounting, where there is one; empty where there is none."""
    jobs = [path.read_text(encoding="ascii").strip() for path in (directory / FOLDER).glob("qlm-*/job")]
    try:
        answer = _call("sacct", "--noheader", "--parsable2", "--allocations", "--format=State", "--jobs", ",".join(jobs))
    except QlmError:
        return ""
    ends = Counter(line.split()[0].lower() for line in answer.splitlines() if line.strip())
    return ", ".join(
        f"{number} {state}" for state, number in ends.most_common() if state not in {"completed", "running", "pending"}
    )


def _parse(settings: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts and YAML files as one mapping; later ones win.

    Raises:
        InputError: if one is neither.
    """
    from qlm_hoomd.protocol import read_settings

    given: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if equals and re.fullmatch(r"[a-z_]+", key):
            if key in {"setup", "extra"}:
                given.setdefault(key, [])
                given[key] = [*given[key], value]
            else:
                given[key] = value
        elif not equals:
            content = read_settings(Path(text))
            given |= {name: str(value) if name == "time" else value for name, value in content.items()}
        else:
            raise InputError(f"--slurm {text}; expected key=value or a YAML file.")
    return given


def _settings(given: dict[str, Any]) -> SlurmSettings:
    try:
        settings = SlurmSettings.model_validate(given)
        if settings.seconds < _WARNING_S + 60:
            raise InputError(
                f"time {settings.time}; expected more than {_WARNING_S + 60} seconds, as tasks stop {_WARNING_S} before."
            )
    except ValidationError as error:
        known = ", ".join(SlurmSettings.model_fields)
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        unknown = (str(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden")
        meant = "".join(did_you_mean(name, SlurmSettings.model_fields) for name in unknown)
        raise InputError(f"settings of slurm: {problems}. The settings are: {known}.{meant}") from None
    except ValueError as error:
        raise InputError(f"settings of slurm: {error}.") from None
    for line in (
        *settings.extra,
        *(str(getattr(settings, name) or "") for name in ("partition", "account", "qos", "mem", "time")),
    ):
        if "\n" in line:
            raise InputError("settings of slurm: a line break in an option; expected one line each.")
    return settings


def _stored(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
