"""The fault campaign: a small ensemble of real glasses, and everything that may befall it.

Processes are killed at random moments, the disk fills up or is read-only, products are truncated and bits of them flipped, two
run at once, and the clock is set back. After each fault the same run goes on. Demanded every time:

* nothing finished is lost: the files of a stage that was done stay as they are, to the inode;
* nothing is computed twice: no stage begins again after its end, and none while another process is at it;
* the results are those of the undisturbed run, byte for byte, `verify` finds nothing, and nothing is left over.

Runs of a slow quench are stopped and killed in the equilibration of their liquids and in their cooling, with the same demands.

The runs are those of :func:`qlm_hoomd.ensemble.runner.run_protocol` with the local executor, in processes of their own that are
forked from this one, where the libraries are loaded already: 200 new interpreters would take longer than everything else.
Workers too are forked here, which users' are not. Some of the kills hit ``qlm work`` as users have it, spawned workers and all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from ensemble import make_protocol, make_run, make_slow_protocol, products
from qlm_quasistatic import stage as shear

from qlm_hoomd.base.checkpoint import unpacked
from qlm_hoomd.base.interrupt import Interrupted
from qlm_hoomd.checkpoint import INTERVAL_VARIABLE
from qlm_hoomd.ensemble.integrity import set_aside, verify
from qlm_hoomd.ensemble.local import LocalExecutor
from qlm_hoomd.ensemble.runner import run_protocol
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.errors import InputError, QlmError, StorageFull
from qlm_hoomd.model import Preparation
from qlm_hoomd.stages import StageContext, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qlm_hoomd.ensemble.realisation import Realisation
    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages import Stage

REALISATIONS = 4
LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib*/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
ENDS = {0: "done", 1: "some failed", 3: "storage is full", 4: "refused"}
PATIENCE_S = 300.0


class Campaign:
    """Everything that is tried, and what came of it.

    Args:
        folder: an empty folder.
        n_kills: processes to kill.
        root_seed: of all that is random.
        protocol: what is run.
    """

    def __init__(self, folder: Path, n_kills: int, root_seed: int, protocol: Protocol) -> None:
        self.folder = folder
        self.n_kills = n_kills
        self.dice = random.Random(root_seed)
        self.protocol = protocol
        self.injected: Counter[str] = Counter()
        self.losses: list[str] = []
        self.n_runs = 0
        self.ledger = folder / "ledger"
        self.reference: dict[str, bytes] = {}
        self.mean_delay = 0.1

    # ---- processes ----

    def prepare(self) -> None:
        """Load what all processes share, and make the undisturbed run."""
        os.environ[INTERVAL_VARIABLE] = "0.05"
        resource_tracker.ensure_running()
        _warm_up(self.folder / "warm", self.protocol)
        start = time.monotonic()
        undisturbed = self.folder / "undisturbed"
        self._wait([self._fork(lambda: make_run(undisturbed, self.protocol) and 0)], "the undisturbed run")
        # Some kills to each realisation: it takes this long on this machine, now.
        self.mean_delay = 0.6 * (time.monotonic() - start) / len(list(self.protocol.statepoints()))
        self.reference = products(Workspace.open(undisturbed))
        for kind in {type(stage) for stage in self.protocol.stages}:
            _counted(kind, self.ledger)

    def _fork(self, work: Callable[[], int]) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            log = os.open(self.folder / "processes.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = work()
        except BaseException:  # noqa: BLE001  (this is the end of a process)
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def start(self, directory: Path, workers: int = 2, before: Callable[[], None] | None = None) -> int:
        """Start a run in a process of its own; its exit code is one of :data:`ENDS`."""

        def work() -> int:
            if before is not None:
                before()
            fork = multiprocessing.get_context("fork")
            multiprocessing.get_context = lambda _=None: fork  # type: ignore[assignment,misc]
            try:
                workspace = run_protocol(self.protocol, directory, LocalExecutor(workers))
            except Interrupted as stop:
                return stop.exit_code
            except StorageFull as error:
                print(error, flush=True)
                return 3
            except InputError as error:
                print(error, flush=True)
                return 4
            except QlmError as error:  # too many of its workers were killed: the run gives up, and another goes on
                print(error, flush=True)
                return 1
            return int(any(each.state(self.protocol) != "done" for each in workspace.realisations))

        self.n_runs += 1
        return self._fork(work)

    def _wait(self, pids: Iterable[int], name: str, allowed: Iterable[int] = (0,)) -> list[int]:
        """Wait for runs; exit codes that are not ``allowed`` are losses. A process that was killed has -9."""
        codes = []
        for pid in pids:
            end = time.monotonic() + PATIENCE_S
            while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
                if time.monotonic() > end:
                    self.lose(f"{name}: hangs")
                    os.kill(pid, signal.SIGKILL)
                    end += PATIENCE_S
                time.sleep(0.01)
            codes.append(os.waitstatus_to_exitcode(ended[1]))
        if any(code not in allowed for code in codes):
            self.lose(f"{name}: exit codes {codes}; {_tail(self.folder / 'processes.log')}")
        return codes

    def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that may never happen, for as long as anything may take."""
        end = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < end:
            time.sleep(0.002)

    def _code(self, process: subprocess.Popen[bytes], name: str) -> int:
        """Exit code of a command, which is killed if it hangs."""
        try:
            return process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.lose(f"{name}: hangs")
            process.kill()
            return process.wait()

    def lose(self, text: str) -> None:
        """Take note of something that must not happen."""
        self.losses.append(text)
        print(f"LOST: {text}", flush=True)

    # ---- what is demanded ----

    def finish(self, directory: Path, name: str) -> None:
        """Run what is left to do, and look at everything."""
        self._wait([self.start(directory)], name)
        self.check(directory, name)

    def check(self, directory: Path, name: str, *, again: int = 0) -> None:
        """The demands on a folder in which all is done.

        Args:
            directory: the folder.
            name: what befell it.
            again: ends of stages that are allowed beyond the first, after products were set aside.
        """
        workspace = Workspace.open(directory)
        found = products(workspace)
        for path in sorted(self.reference.keys() | found.keys()):
            if self.reference.get(path) != found.get(path):
                self.lose(f"{name}: {path} is {'gone' if path not in found else 'not that of the undisturbed run'}")
        for kind, path, text in self.findings(directory):
            self.lose(f"{name}: verify: {kind} {path}: {text}")
        leftovers = [*(directory / ".claims").iterdir(), *workspace.running_directory.iterdir()]
        leftovers += [path for path in directory.glob("workspace/*/.*") if path.suffix in {".tmp", ".checkpoint"}]
        for path in [*leftovers, *directory.glob("workspace/*/failed"), *directory.glob("workspace/*/failed/*")]:
            self.lose(f"{name}: {path.relative_to(directory)} is left over")
        ends: Counter[tuple[str, str]] = Counter()
        for line in self.ledger.read_text().splitlines() if self.ledger.exists() else ():
            word, job_id, kind, pid = line.split()
            if word == "start" and ends[job_id, kind] and not again:
                self.lose(f"{name}: process {pid} began {kind} of {job_id} after its end")
            elif word == "overlap":
                self.lose(f"{name}: process {pid} began {kind} of {job_id} while another was at it")
            ends[job_id, kind] += word == "end"
        twice = sum(number - 1 for number in ends.values() if number > 1)
        if twice != again:
            self.lose(f"{name}: {twice} stages were computed again, {again} had to be")
        self.ledger.unlink(missing_ok=True)

    def findings(self, directory: Path, *, aside: bool = False) -> list[tuple[str, Path, str]]:
        """What `verify` finds, and sets aside if that is asked for: kind, file, text.

        In a process of its own, as it may read tables: threads of polars must not begin in this one, from which others are
        forked.
        """
        answer = self.folder / "findings.json"
        answer.unlink(missing_ok=True)

        def work() -> int:
            proof = verify(Workspace.open(directory))
            answer.write_text(json.dumps([(each.kind, str(each.path), each.text) for each in proof.findings]))
            if aside:
                set_aside(proof)
            return 0

        self._wait([self._fork(work)], f"{directory.name}, verify")
        found = json.loads(answer.read_text()) if answer.exists() else []
        return [(kind, Path(path), text) for kind, path, text in found]

    def finished_files(self, directory: Path) -> dict[str, tuple[int, int]]:
        """Inode and time of the products of stages that are done."""
        found = {}
        with suppress(InputError):
            workspace = Workspace.open(directory)
            for realisation in workspace.realisations:
                for stage, state in zip(self.protocol.stages, realisation.stage_states(self.protocol.stages), strict=True):
                    if state == "done":
                        found.update(_marks(realisation, stage))
        return found

    def unchanged(self, before: dict[str, tuple[int, int]], directory: Path, name: str) -> dict[str, tuple[int, int]]:
        """Demand that files of finished stages are the same ones still."""
        now = self.finished_files(directory)
        for path, mark in before.items():
            if now.get(path) != mark:
                self.lose(f"{name}: {path} was finished and is {'gone' if path not in now else 'another file'}")
        return now

    # ---- what befalls ----

    def kill_processes(self) -> None:
        """SIGKILL to runs and their workers, one ensemble after the other, until enough have been hit."""
        number = 0
        while sum(self.injected[kind] for kind in _KILLS) < self.n_kills and not self.losses:
            directory = self.folder / f"kills-{number}"
            finished: dict[str, tuple[int, int]] = {}
            while True:
                runs = {self.start(directory) for _ in range(1 + (self.dice.random() < 0.25))}
                codes = self._kill_some(runs, directory)
                finished = self.unchanged(finished, directory, directory.name)
                if any(code not in (0, 1, -signal.SIGKILL) for code in codes):
                    self.lose(f"{directory.name}: exit codes {codes}; {_tail(self.folder / 'processes.log')}")
                if 0 in codes or self.losses:
                    break
            self.finish(directory, directory.name)
            number += 1

    def _kill_some(self, runs: set[int], directory: Path) -> list[int]:
        """Kill processes of these runs at random moments, until all have ended; their exit codes."""
        codes: list[int] = []
        due = time.monotonic() + self.dice.expovariate(1 / self.mean_delay)
        end = time.monotonic() + PATIENCE_S
        while runs:
            for pid in tuple(runs):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    runs.remove(pid)
                    codes.append(os.waitstatus_to_exitcode(status))
            if time.monotonic() > end:
                self.lose(f"{directory.name}: hangs")
                for pid in runs:
                    os.kill(pid, signal.SIGKILL)
                end += PATIENCE_S
            if runs and time.monotonic() >= due:
                due = time.monotonic() + self.dice.expovariate(1 / self.mean_delay)
                run = self.dice.choice(sorted(runs))
                workers = _children(run)
                busy = sorted(workers & _claimers(directory))
                if not workers or self.dice.random() < 0.2:
                    victim, kind = run, "SIGKILL of a run"
                elif busy:
                    victim, kind = self.dice.choice(busy), "SIGKILL of a worker at work"
                else:
                    victim, kind = self.dice.choice(sorted(workers)), "SIGKILL of an idle worker"
                if _kill_running(victim):
                    self.injected[kind] += 1
            time.sleep(0.002)
        return codes

    def stop_in_the_liquid(self, number: int) -> None:
        """SIGTERM and SIGKILL to runs, at least so many of each in equilibration and in cooling."""
        phases, signals = ("equilibration", "cooling"), (signal.SIGTERM, signal.SIGKILL)
        hits = dict.fromkeys(((phase, signum) for phase in phases for signum in signals), 0)
        turn = 0
        while min(hits.values()) < number and not self.losses:
            directory = self.folder / f"liquid-{turn}"
            turn += 1
            code = None
            while code != 0 and not self.losses:
                earlier = _saves(directory)
                run = self.start(directory, workers=1)
                self._until(lambda: _state(run) in "ZX" or bool(_saves(directory) - earlier))  # noqa: B023
                time.sleep(self.dice.uniform(0.0, 0.3 * self.mean_delay))
                phase = _phase(directory)
                signum = min(signals, key=lambda signum: hits[phase, signum]) if phase else None
                if signum == signal.SIGTERM:
                    with suppress(ProcessLookupError):
                        os.kill(run, signum)
                elif signum == signal.SIGKILL:
                    # With its worker, or before that one, which then ends by itself.
                    for pid in [*(_children(run) if self.dice.random() < 0.5 else ()), run]:
                        _kill_running(pid)
                [code] = self._wait([run], directory.name, (0, 1, -signal.SIGKILL, 128 + signal.SIGTERM))
                if phase is not None and signum is not None and phase == _phase(directory):
                    hits[phase, signum] += 1
                    self.injected[f"{signum.name} in {phase}"] += 1
            self.finish(directory, directory.name)

    def kill_commands(self, number: int) -> None:
        """SIGKILL to ``qlm work`` and its spawned workers."""
        directory = self.folder / "command"
        ids = [each.id for each in Workspace.create(self.protocol, directory).realisations]
        qlm = Path(sys.executable).with_name("qlm")
        with (self.folder / "commands.log").open("w") as log:
            hits = 0
            while hits < number and not self.losses:
                process = subprocess.Popen(
                    [qlm, "work", directory, *ids, "--workers", "2"], stdout=log, stderr=subprocess.STDOUT
                )
                self._until(lambda: process.poll() is not None or bool(_claimers(directory)))  # noqa: B023
                time.sleep(self.dice.uniform(0.0, 2.0 * self.mean_delay))
                victims = [process.pid, *sorted(_children(process.pid) & _claimers(directory))]
                if process.poll() is None and _kill_running(victims[self.dice.randrange(len(victims))]):
                    self.injected["SIGKILL of qlm work or its worker"] += 1
                    hits += 1
                if self._code(process, "qlm work") not in (0, 1, -signal.SIGKILL):
                    self.lose(f"qlm work: exit code {process.returncode}; {_tail(self.folder / 'commands.log')}")
                if process.returncode == 0 and hits < number:  # all is done: another folder
                    self.finish(directory, "qlm work")
                    directory = self.folder / f"command-{hits}"
                    Workspace.create(self.protocol, directory)
        self.ledger.unlink(missing_ok=True)  # what these processes did is not in it
        self._wait([self.start(directory)], "qlm work")
        self.check(directory, "qlm work")

    def fill_disks(self, number: int) -> None:
        """A disk that fills up (tmpfs, or a limit on the size of files where it cannot be mounted), and one that is read-only."""
        for turn in range(number):
            directory = self.folder / f"disk-{turn}"
            directory.mkdir()
            size = self.dice.randrange(40, 240)
            mounted = _mount(directory, f"size={size}k")
            if not mounted:
                limit = self.dice.randrange(1_500, 9_000)
                codes = self._wait(
                    [self.start(directory, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))],  # noqa: B023
                    "files of limited size",
                    (0, 1, 3, 4),
                )
                self.injected["limit on the size of files"] += codes != [0]
                self.finish(directory, "files of limited size")
                continue
            try:
                name = f"disk of {size} kB"
                codes = self._wait([self.start(directory)], name, (0, 3))
                self.injected["full disk"] += codes == [3]
                finished = self.finished_files(directory)
                if finished:
                    for kind, path, text in self.findings(directory):
                        if kind in {"truncated", "changed", "unreadable"}:  # neither whole nor just not there yet
                            self.lose(f"{name}: {kind} {path}: {text}")
                _mount(directory, "remount,ro")
                left = not finished or len(finished) < len(self.reference)
                codes = self._wait([self.start(directory)], f"{name}, read-only", (4,) if left else (0, 4))
                self.injected["read-only disk"] += codes == [4]
                _mount(directory, "remount,rw,size=20m")
                self.unchanged(finished, directory, name)
                self._wait([self.start(directory)], name)
                self.unchanged(finished, directory, name)
                self.check(directory, name)
            finally:
                subprocess.run(["umount", "-l", directory], check=False, timeout=60)

    def damage(self, number: int) -> None:
        """Products that are cut short, or of which a bit is flipped: verify names them, the next run makes them again."""
        directory = self.folder / "damaged"
        self.finish(directory, "undamaged")
        for _ in range(number):
            paths = [directory / "workspace" / path for path in sorted(self.reference)]
            chosen = self.dice.sample(paths, self.dice.randrange(1, 3))
            for path in chosen:
                content = bytearray(path.read_bytes())
                if self.dice.random() < 0.5:
                    content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
                    kind = "flipped bit"
                else:
                    del content[self.dice.randrange(len(content)) :]
                    kind = "truncated product"
                path.write_bytes(content)
                self.injected[kind] += 1
            named = sorted(path for _, path, _ in self.findings(directory, aside=True))
            if named != sorted(chosen):
                self.lose(f"damage: verify names {named}; {chosen} were damaged")
            again = {
                (path.parent, stage.kind) for path in chosen for stage in self.protocol.stages if path.name in stage.products()
            }
            self._wait([self.start(directory)], "damage")
            for path in chosen:
                path.with_name(f"{path.name}.damaged").unlink()
            starts = self.ledger.read_text().count("start")
            if starts != len(again):
                self.lose(f"damage: {starts} stages were computed, {len(again)} had to be")
            self.check(directory, "damage")

    def two_at_once(self, number: int) -> None:
        """Two or three runs in one folder, started together."""
        for turn in range(number):
            directory = self.folder / f"together-{turn}"
            self._wait([self.start(directory) for _ in range(2 + turn % 2)], "runs at once")
            self.injected["runs at once"] += 1
            self.check(directory, "runs at once")

    def set_clocks(self, number: int, *, with_library: bool) -> None:
        """The clock of the machine is set back: heartbeats that are days old, or from the future, and a second run beside the first.

        With libfaketime a second run sees a clock that is two days slow; without it, the times of the claims' files are set.
        """
        for turn in range(number):
            directory = self.folder / f"clock-{turn}"
            runs = [self.start(directory)]
            self._until(lambda: bool(_claimers(directory)) or _state(runs[0]) in "ZX")  # noqa: B023
            claims = list(directory.glob(".claims/*.1"))
            stamp = time.time() + (-1) ** turn * 2 * 86400
            for path in claims:
                with suppress(FileNotFoundError):
                    os.utime(path, (stamp, stamp))
            runs.append(self.start(directory))
            self._wait(runs, "clock")
            self.injected["times of claims set"] += bool(claims)
            self.check(directory, "clock")
        library = next((str(path) for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])), None)
        if not with_library or library is None:
            print(
                "clock: times of the claims' files were set (os.utime)" + ("" if library else "; there is no libfaketime here")
            )
            return
        directory = self.folder / "faketime"
        Workspace.create(self.protocol, directory)
        ids = [each.id for each in Workspace.open(directory).realisations]
        # Its monotonic clock is two days slow as well: libfaketime 0.9.10 breaks sleeping where that one is left alone.
        slow = os.environ | {"LD_PRELOAD": library, "FAKETIME": "-2d", "NO_FAKE_STAT": "1"}
        with (self.folder / "commands.log").open("a") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("qlm"), "work", directory, *ids], env=slow, stdout=log, stderr=subprocess.STDOUT
            )
            self._until(lambda: process.poll() is not None or bool(_claimers(directory)))
            both = process.poll() is None
            run = self.start(directory)
            if self._code(process, "qlm work with a slow clock") != 0:
                self.lose(f"qlm work with a slow clock: exit code {process.returncode}; {_tail(self.folder / 'commands.log')}")
        self._wait([run], "slow clock")
        self.injected["clock set back (libfaketime)"] += both
        self.check(directory, "slow clock")

    def report(self) -> int:
        """Say what was tried and what was lost; the exit code."""
        for kind, number in sorted(self.injected.items()):
            print(f"{number:5d}  {kind}")
        spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(f"{self.n_runs} runs, {spent:.0f} s of processor time (of processes that were not killed with their parents)")
        print(f"faults injected {sum(self.injected.values())}, lost {len(self.losses)}")
        return int(bool(self.losses))


def _saves(directory: Path) -> set[tuple[int, Path]]:
    """Checkpoints of preparations, with their times [ns]."""
    found = set()
    for path in directory.glob("workspace/*/.prepare.checkpoint"):
        with suppress(FileNotFoundError):
            found.add((path.stat().st_mtime_ns, path))
    return found


def _phase(directory: Path) -> str | None:
    """What the preparation was at that was saved last; None if it has come to its end."""
    with suppress(FileNotFoundError, ValueError):
        _, path = max(_saves(directory))
        classes = (prepare._Progress, prepare.Glass, prepare.Box, prepare.DynamicsReport, prepare.DynamicsState)
        return "equilibration" if unpacked(path.read_bytes(), classes)["state"].equilibration is None else "cooling"
    return None


_KILLS = ("SIGKILL of a run", "SIGKILL of a worker at work", "SIGKILL of an idle worker")


def run_campaign(folder: Path, n_kills: int, root_seed: int) -> int:
    """All faults; returns the exit code."""
    small = n_kills < 100
    start = time.monotonic()
    campaign = Campaign(folder, n_kills, root_seed, make_protocol(REALISATIONS))
    campaign.prepare()
    parts: list[Callable[[], None]] = [
        lambda: campaign.two_at_once(1 if small else 4),
        lambda: campaign.damage(2 if small else 10),
        lambda: campaign.fill_disks(2 if small else 8),
        lambda: campaign.set_clocks(1 if small else 4, with_library=not small),
        campaign.kill_processes,
        lambda: None if small else campaign.kill_commands(n_kills // 40),
    ]
    for part in parts:
        part()
        so_far = ", ".join(f"{number} x {kind}" for kind, number in campaign.injected.items())
        print(f"{time.monotonic() - start:6.0f} s: {so_far}", flush=True)
    return campaign.report()


def run_liquid_campaign(folder: Path, number: int, root_seed: int) -> int:
    """So many stops and kills of each kind in each phase of a slow quench; returns the exit code."""
    campaign = Campaign(folder, 0, root_seed, make_slow_protocol(2))
    campaign.prepare()
    campaign.stop_in_the_liquid(number)
    return campaign.report()


class _DryContext(StageContext):
    def write_table(self, name: str, table: Any) -> None:
        """No table: the threads of polars would not come along into processes that are forked later."""


def _warm_up(folder: Path, protocol: Any) -> None:
    """Compile and load what the stages need, here, for all processes to come.

    Raises:
        RuntimeError: if a stage started threads of polars here: they would not come along, and who needs them there waits for ever.
    """
    folder.mkdir()
    before = len(_tasks())
    point = next(iter(protocol.statepoints()))
    for stage in protocol.stages:
        context = _DryContext(
            directory=folder,
            statepoint=point,
            model=protocol.model,
            preparation=Preparation.model_validate(point["preparation_settings"]),
            engine=protocol.engine.build(protocol.model),
            provenance={},
            progress=lambda _: None,
        )
        # Neither does a table that is filtered; and a stage that reads one finds none.
        with suppress(Exception), patch.object(shear, "missed", return_value=None):
            stage.run(context)
    if len(_tasks()) > before:
        raise RuntimeError(f"{len(_tasks())} threads after the stages, {before} before; expected none of polars")


def _tasks() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())


def _counted(kind: type[Stage], ledger: Path) -> None:
    """Make a kind of stages keep a ledger of its beginnings and ends."""
    original = kind.run

    def note(word: str, context: StageContext, stage: Stage) -> None:
        with ledger.open("a") as file:
            file.write(f"{word} {context.directory.name} {stage.kind} {os.getpid()}\n")

    def run(self: Stage, context: StageContext) -> None:
        open_pids = []
        for line in ledger.read_text().splitlines() if ledger.exists() else ():
            word, job_id, of, pid = line.split()
            if (job_id, of) == (context.directory.name, self.kind) and int(pid) != os.getpid():
                open_pids = [each for each in open_pids if each != pid] + [pid] * (word == "start")
        if any(_state(int(pid)) not in "ZX" for pid in open_pids):
            note("overlap", context, self)
        note("start", context, self)
        original(self, context)
        note("end", context, self)

    kind.run = run  # type: ignore[method-assign]


def _marks(realisation: Realisation, stage: Stage) -> dict[str, tuple[int, int]]:
    paths = [realisation.directory / name for name in stage.products()]
    return {f"{path.parent.name}/{path.name}": ((found := path.stat()).st_ino, found.st_mtime_ns) for path in paths}


def _state(pid: int) -> str:
    """State of a process as the kernel has it; X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, path.read_text().split()))
    return found


def _claimers(directory: Path) -> set[int]:
    found = set()
    for path in directory.glob(".claims/*"):
        with suppress(OSError, ValueError, KeyError):
            found.add(json.loads(path.read_text())["pid"])
    return found


def _kill_running(pid: int) -> bool:
    """Kill a process; whether it was running: it is stopped first, as one that has ended cannot be."""
    try:
        os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + 10.0
        while (state := _state(pid)) not in "TZX" and time.monotonic() < end:
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return state == "T"


def _mount(directory: Path, options: str) -> bool:
    """Mount or remount a tmpfs; whether it could be done."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True, check=False, timeout=60
    )
    return mount.returncode == 0


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:] if log.exists() else ""
