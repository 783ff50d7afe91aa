"""Who works at what, without locks: claims are files that only one process can create, on shared file systems too.

The claim of NAME is the file ``NAME.1``. It says which process holds it, and its time of change is that process's heartbeat. A
claim whose holder is dead is void and is superseded by creating ``NAME.2``, which again only one process can do: nobody ever
has to remove a file that may meanwhile belong to somebody else. Whoever wins a claim must look whether the work is done before
starting it.

A holder on this machine is dead when its process is gone. One on another machine is dead when its heartbeat is old by the clock
of the file system, and has not moved while this process watched: clocks of machines are never compared, and a clock that is
set, forward or back, voids no claim whose holder is alive.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

State: TypeAlias = Literal["free", "void", "alive", "unknown"]
"""Of a claim: nobody holds it; its holder is dead; its holder lives; it is too early to tell."""
HEARTBEAT_S = 15.0
"""Time between two heartbeats [s]."""
STALE_S = 180.0
"""Age of a heartbeat, by the clock of the file system, from which on its holder is suspected dead [s]."""
CONFIRM_S = 75.0
"""Time for which a suspect is watched before its claim is void [s]; longer than file systems cache the times of files."""


@dataclass
class Claim:
    """A claim that this process holds while the object is entered; a thread keeps its heart beating.

    Args:
        path: the file.
    """

    path: Path
    _released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, daemon=True, name=f"claim of {self.path.stem}").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.release()

    @property
    def lost(self) -> bool:
        """Whether others took this process for dead, e.g. while it was suspended, and claimed its work."""
        name, _, generation = self.path.name.rpartition(".")
        return self.path.with_name(f"{name}.{int(generation) + 1}").exists()

    def release(self) -> None:
        """Give the claim back, and remove the void ones that it superseded."""
        self._released.set()
        name, _, generation = self.path.name.rpartition(".")
        # The oldest first: whoever looks in between still finds this one.
        for number in sorted(Claims(self.path.parent)._files().get(name, ())):  # noqa: SLF001  (counting up to a damaged number never ends)
            if number <= int(generation):
                self.path.with_name(f"{name}.{number}").unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self.path)


class Claims:
    """The claims in one folder. One object remembers what it saw of others' heartbeats: keep it while waiting for them.

    Args:
        directory: the folder; it is made when it is needed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._watched: dict[str, tuple[int, float, State]] = {}

    def take(self, name: str) -> Claim | None:
        """Claim ``name``; None if a process that may be alive holds it.

        Raises:
            OSError: if the folder cannot be written to.
        """
        last = max(self._files().get(name, ()), default=0)
        if last and self._state(self.directory / f"{name}.{last}") in {"alive", "unknown"}:
            return None
        path = self.directory / f"{name}.{last + 1}"
        if not self._create(path):
            return None
        # What was seen above may have been released since, and claimed anew under another number.
        others = [self.directory / f"{name}.{number}" for number in self._files().get(name, ()) if number != last + 1]
        if any(self._state(other) in {"alive", "unknown"} for other in others):
            path.unlink(missing_ok=True)
            return None
        return Claim(path)

    def left(self) -> set[str]:
        """The names that are claimed, by the living or the dead."""
        return set(self._files())

    def states(self) -> dict[str, State]:
        """The state of every name that is claimed; those that are not are free."""
        return {name: self._state(self.directory / f"{name}.{max(generations)}") for name, generations in self._files().items()}

    def live(self) -> dict[str, dict[str, Any]]:
        """Holder (``place``, ``host``, ``pid``, ``started``) of every claim that one look gives no reason to doubt, by name."""
        held = {}
        for name, generations in self._files().items():
            path = self.directory / f"{name}.{max(generations)}"
            state = self._state(path)
            holder, changed = _holder(path)
            if changed is not None and (state == "alive" or (state == "unknown" and not self._is_suspect(changed))):
                held[name] = holder
        return held

    def beat(self) -> None:
        """Refresh the claims of all living processes on this machine: kernels of theirs may keep their own threads waiting."""
        for name, generations in self._files().items():
            path = self.directory / f"{name}.{max(generations)}"
            holder, _ = _holder(path)
            if holder.get("place") == place() and _lives(holder):
                with suppress(OSError):
                    os.utime(path)

    def sweep(self) -> None:
        """Remove what processes of this machine left that were killed while they were creating a claim."""
        remove_leftovers((*self.directory.glob(".*.tmp"), *self.directory.glob(".*.now")))

    def _files(self) -> dict[str, list[int]]:
        files: dict[str, list[int]] = {}
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                name, _, generation = entry.name.rpartition(".")
                if name and not name.startswith(".") and generation.isdecimal():
                    files.setdefault(name, []).append(int(generation))
        return files

    def _create(self, path: Path) -> bool:
        """Create ``path`` with this process as its holder, unless it is there: in one step, so that none is ever half-written."""
        self.directory.mkdir(exist_ok=True)
        draft = self.directory / f".{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.tmp"
        content = json.dumps(
            {"place": place(), "host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        )
        try:
            draft.write_text(content, encoding="utf-8")
            try:
                os.link(draft, path)
            except FileExistsError:
                # A network file system may have made the link, lost the answer, and been asked again.
                return draft.stat().st_nlink == 2
            except OSError:  # a file system without links
                try:
                    with path.open("x", encoding="utf-8") as file:
                        file.write(content)
                except FileExistsError:
                    return False
            return True
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _state(self, path: Path) -> State:
        holder, changed = _holder(path)
        if changed is None:  # released since
            return "free"
        if holder.get("place") == place():
            return "alive" if _lives(holder) else "void"
        now = time.monotonic()
        if path.name not in self._watched:
            self._watched[path.name] = (changed, now, "unknown")
        seen, since, state = self._watched[path.name]
        if seen != changed:  # its heart beats
            self._watched[path.name] = (changed, now, "alive")
            return "alive"
        return "void" if now - since >= CONFIRM_S and self._is_suspect(changed) else state

    def _is_suspect(self, changed: int) -> bool:
        # A time in the future, too, is one that the file system's clock does not account for.
        return not -HEARTBEAT_S <= self._clock() - 1e-9 * changed <= STALE_S

    def _clock(self) -> float:
        """The clock of the file system [s]: the time that it gives to a file that is written now."""
        sample = self.directory / f".{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.now"
        try:
            sample.touch()
            return sample.stat().st_mtime
        except OSError:  # read-only or full: the clock of this machine is all there is
            return time.time()
        finally:
            with suppress(OSError):
                sample.unlink(missing_ok=True)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove those of these temporary files that dead processes of this machine left, by the host and process in their names."""
    mine = re.compile(rf"\.{re.escape(socket.gethostname())}\.(\d+)(\.\d+)?\.(tmp|now)$")
    for path in paths:
        found = mine.search(path.name)
        if found and _started(int(found[1])) is None:
            with suppress(OSError):
                path.unlink(missing_ok=True)


@cache
def place() -> str:
    """Where a process number means something: this machine since it was started, and the process namespace in it."""

    def read(path: str) -> str:
        try:
            return Path(path).read_text(encoding="ascii").strip()
        except OSError:
            return ""

    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {read('/proc/sys/kernel/random/boot_id')} {namespace}".strip()


def _holder(path: Path) -> tuple[dict[str, Any], int | None]:
    """Who holds the claim, {} where that cannot be read, and its heartbeat [ns]; None where there is none any more."""
    try:
        with path.open(encoding="utf-8") as file:  # opening makes network file systems look again
            content, changed = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError):
        return {}, 0
    try:
        holder = json.loads(content)
    except (ValueError, RecursionError):
        holder = {}
    return (holder if isinstance(holder, dict) else {}), changed


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process that holds a claim of this machine is still that process."""
    pid = holder.get("pid")
    # Zero and less mean groups of processes to the system; a claim whose text is damaged must never lead to a signal for those.
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's, but alive
        pass
    except (OSError, OverflowError):
        return False
    return _started(pid) == holder.get("started")


def _started(pid: int) -> str | None:
    """When a process was started, in its machine's own units; it tells processes apart that had the same number. None: dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "unknown" if not Path("/proc/self/stat").exists() else None
    return None if fields[0] in "ZX" else fields[19]
