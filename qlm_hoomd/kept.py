"""What is finished of an analysis of a file, frame by frame, until its tables are made of all of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qlm_hoomd.base.checkpoint import packed, unpacked
from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.files import replacing, storage_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qlm_hoomd.glass import Glass

_FOLDER = ".frames"


def digest_of(glass: Glass) -> str:
    """Fingerprint of a configuration: particles, places, box and sizes."""
    parts = (glass.positions.tobytes(), glass.typeid.tobytes(), glass.box.to_gsd().tobytes())
    sizes = b"" if glass.sizes is None else glass.sizes.tobytes()
    return hashlib.sha256(b"".join((*parts, sizes))).hexdigest()


class Kept:
    """Finished frames in a folder of their own inside the output folder, a file for each, whole or not at all.

    Args:
        out: the output folder; None keeps them in memory.
        settings: JSON values of the command; frames of another one in the same folder are refused.
    """

    def __init__(self, out: Path | None, settings: Mapping[str, Any]) -> None:
        self._out = out
        self._settings = json.loads(json.dumps(dict(settings), sort_keys=True))
        self._in_memory: dict[int, dict[str, Any]] = {}

    @property
    def begun(self) -> bool:
        """Whether there are finished frames of which no files were made yet."""
        return self._out is not None and (self._out / _FOLDER).is_dir()

    def load(self, index: int, glass: Glass) -> dict[str, Any]:
        """What was kept of a frame, which has to be the same as then; empty where there is nothing.

        Raises:
            InputError: if it was made by another command.
        """
        if self._out is None:
            return self._in_memory.get(index, {})
        try:
            content = unpacked(self._path(index).read_bytes())
            settings, result = content["settings"], content["result"]
            same = result["input"] == digest_of(glass)
        except Exception:  # noqa: BLE001  (none, or damaged: it is made again)
            return {}
        other = sorted(name for name in self._settings if settings.get(name) != self._settings[name])
        if other:
            raise InputError(
                f"{self._out} holds finished frames of another command ({', '.join(other)} differ); expected the same command, "
                "which goes on from them, or a new folder (--out)."
            )
        return dict(result) if same else {}

    def save(self, index: int, result: dict[str, Any]) -> None:
        """Keep what was made of a frame.

        Raises:
            StorageFull: if the disk is full.
        """
        if self._out is None:
            self._in_memory[index] = result
            return
        path = self._path(index)
        with storage_named(self._out):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(packed({"settings": self._settings, "result": result}))

    def discard(self) -> None:
        """Remove what is kept: the files are made of it."""
        if self._out is not None:
            shutil.rmtree(self._out / _FOLDER, ignore_errors=True)

    def _path(self, index: int) -> Path:
        assert self._out is not None
        return self._out / _FOLDER / f"{index}.npz"
