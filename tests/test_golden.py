"""What later code must not change: hashes and ids of protocols, numbers and files of the smallest run, and that old runs go on.

``tests/golden/`` was recorded with the code of commit b446ea3.

Same bits, and where. The processes that make numbers here run in :data:`PORTABLE`: numba compiles for a generic x86-64,
OpenBLAS and numpy keep to AVX2. So the numbers are compared to the bits where the libraries have the recorded versions and the
processor is an x86-64 with AVX2; elsewhere, and where the code rounds otherwise by intent (:data:`SAME_BITS`), to a tolerance.

* The liquid at T0 is chaotic: 50 t_c make of one rounding another glass, in which no number agrees. So the glasses come along,
  as the recorded code prepared them, and all that follows is computed from them; of a glass prepared here, files and columns
  are compared, and numbers only as long as the bits of the liquid are the same.
* From one and the same quenched glass, the smallest run agrees in all columns to :data:`TOLERANCE`, 1e-10; measured: to 3e-12,
  with other BLAS kernels, numpy without AVX-512, numba with the processor's own instructions (all on one machine whose features
  were switched off), and with pairs summed in another order.
* So do strains and energies of the old run, whose detector is ``fold``. What is of first order in the forces left at rest, such
  as drops of stress and displacements, agrees there to :data:`AT_REST` and can do no better: a state is at rest below 1e-10,
  and 5e-7 of strain before a fold that leaves the softest mode, and with it the stress, undetermined by some 1e-10; measured:
  1e-11 with those processors, and 2e-9 where another order of pairs ends the last linear solver one product earlier.
* ``strain_c_error`` is what an iteration leaves, and of ``steps.parquet``, whose steps are adaptive, the end alone is compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import gsd.fl
import llvmlite.binding
import polars as pl
import pytest
from pydantic import BaseModel
from signac.job import calc_id
from typer.testing import CliRunner

from qlm_hoomd.cli import app
from qlm_hoomd.model import GlassModel
from qlm_hoomd.protocol import Preparation, Protocol, build_protocol, load_protocol
from qlm_hoomd.registry import DETECTORS, ENGINES, POTENTIALS, STAGES
from qlm_hoomd.settings import is_later

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
SMOKE = ROOT / ".ci" / "smoke.yaml"

SAME_BITS: set[str] = set()
"""What the present code repeats to the bits: the dynamics of the liquid, and the two records. A change that rounds otherwise by
intent, e.g. another order of the same sum, takes out what it concerns. The records stay what the code of b446ea3 has found."""
TOLERANCE = 1e-10
"""Largest relative difference where the bits are not the same."""
AT_REST = {"smoke.json": TOLERANCE, "golden_run.json": 1e-8}
"""That of what is of first order in the forces left at rest."""
SECOND_ORDER = {"strain_before", "strain_after", "strain_c", "gamma_min", "energy_drop", "travelled", "strain", "energy"}

GAINED = {
    "modes.gsd": {"log/qlm/frequency", "log/qlm/index", "log/qlm/participation_ratio"},
    "events.parquet": {"rule"},
    "modes.parquet": {"distance_theory"},
}
"""Chunks and columns that files have gained since the record; older ones lack them."""
DRAWN = {"particles/type_shapes"}
"""What any GSD file has gained for viewers."""
RENAMED = {"qlm/provenance": "log/qlm/provenance"}
"""Chunks by their names at the time of the record."""

PORTABLE = {
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "OPENBLAS_CORETYPE": "Haswell",
    # Names of numpy 2.4 and of those before; unknown ones are passed over.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL",
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "vesin", "freud-analysis")


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


# ---- hashes and ids ----


def identity(protocol: Protocol) -> dict[str, Any]:
    ids = [calc_id(statepoint) for statepoint in protocol.statepoints()]
    return {
        "hash": protocol.hash,
        "n_realisations": len(ids),
        "first_ids": ids[:3],
        "all_ids": hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest(),
    }


@pytest.mark.parametrize("name", read("protocols.json")["shipped"])
def test_shipped_protocol_keeps_its_hash_and_the_ids_of_its_realisations(name: str) -> None:
    assert identity(load_protocol(ROOT / name)) == read("protocols.json")["shipped"][name]


@pytest.mark.parametrize("name", read("protocols.json")["variants"])
def test_protocol_with_settings_of_its_own_keeps_its_hash_and_the_ids_of_its_realisations(name: str) -> None:
    recorded = read("protocols.json")["variants"][name]
    assert identity(build_protocol(recorded["settings"])) == {key: recorded[key] for key in recorded if key != "settings"}


def test_every_shipped_protocol_is_recorded() -> None:
    shipped = {path.relative_to(ROOT).as_posix() for path in [*(ROOT / "protocols").glob("*.yaml"), SMOKE]}
    assert shipped == set(read("protocols.json")["shipped"])


# ---- settings ----

ADVICE = """
%s. Every run made so far has a hash without it. Mark it as later, with a default at which everything is as it was:

    name: Annotated[float, Later(), Field(ge=0)] = Field(default=0.0, description="...")    # from qlm_hoomd.settings import Later

It is then left out of hashes at its default, and needs no entry in tests/golden/settings.json."""


def key_of(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    return model.__name__ if kind is None else str(kind.default)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, and those that their fields do."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for part in get_args(annotation):
        yield from models_in(part)


def hashed_models() -> dict[str, type[BaseModel]]:
    """All models whose settings are in a hash or a state point: those of this repository, plugins included."""
    roots: list[Any] = [GlassModel, Preparation]
    for group in (STAGES, ENGINES, POTENTIALS, DETECTORS):
        roots += [plugin.load() for plugin in group.plugins.values() if plugin.distribution.startswith("qlm")]
    models = {model for root in roots for model in models_in(root)}
    # A base whose settings are all later ones has none that was ever in a hash.
    return {key_of(model): model for model in models if not all(map(is_later, model.model_fields.values()))}


def test_no_setting_is_added_that_would_change_the_hash_of_what_exists() -> None:
    recorded = read("settings.json")
    for key, model in hashed_models().items():
        assert key in recorded, (
            f"'{key}' is new: add its settings to tests/golden/settings.json; from then on they are as they are"
        )
        names = {name for name, field in model.model_fields.items() if not is_later(field)}
        assert not (new := names - set(recorded[key])), ADVICE % f"'{key}' has new settings: {', '.join(sorted(new))}"
        gone = set(recorded[key]) - names
        assert not gone, (
            f"'{key}' has lost {', '.join(sorted(gone))} (or they are marked as later now): what has them is orphaned"
        )
        bare = [name for name, field in model.model_fields.items() if is_later(field) and field.is_required()]
        assert not bare, f"'{key}' has later settings without a default: {', '.join(bare)}"
    assert set(hashed_models()) == set(recorded)


def test_recorded_protocols_use_every_kind_and_set_every_setting() -> None:
    used: dict[str, set[str]] = {}

    def visit(value: Any) -> None:
        if isinstance(value, BaseModel):
            names = used.setdefault(key_of(type(value)), {"kind"})
            for name, field in type(value).model_fields.items():
                item = dict(value)[name]
                visit(item)
                if field.is_required() or item != field.get_default(call_default_factory=True):
                    names.add(name)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ():
            visit(item)

    for variant in read("protocols.json")["variants"].values():
        visit(build_protocol(variant["settings"]))
    for key, names in read("settings.json").items():
        assert set(names) <= used[key], key


# ---- tables and files of a run ----


def qlm(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own that rounds as the recorded ones did."""
    command = [str(Path(sys.executable).with_name("qlm")), *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | PORTABLE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def work_through(protocol: Path, run: Path) -> None:
    """`qlm run` without a report, which takes longer than the run."""
    made = CliRunner().invoke(app, ["run", str(protocol), "--out", str(run), "--executor", "row"])
    assert made.exit_code == 0, made.output
    (run / "workflow.toml").unlink()
    qlm("work", run, "--ids", ",".join(calc_id(statepoint) for statepoint in load_protocol(protocol).statepoints()))


def plain(value: Any) -> Any:
    """A value as JSON keeps it, floats by their bits."""
    if isinstance(value, float):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, list) else value


def columns_of(table: pl.DataFrame) -> dict[str, list[Any]]:
    return {name: plain(table[name].to_list()) for name in table.columns}


def numbers_of(folder: Path) -> dict[str, Any]:
    """The numbers of a realisation: its instabilities, where its shear ended, and digests of the columns of all tables."""
    tables = {
        path.name: pl.read_parquet(path).drop(GAINED.get(path.name, ()), strict=False)
        for path in sorted(folder.glob("*.parquet"))
    }
    return {
        "events": columns_of(tables["events.parquet"]),
        "end": columns_of(tables["steps.parquet"].tail(1).select("strain", "energy", "travelled")),
        "digests": {
            name: {
                column: hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12] for column, rows in columns_of(table).items()
            }
            for name, table in tables.items()
        },
    }


def form_of(folder: Path) -> dict[str, Any]:
    """What is in the files of a realisation, but for its log: columns of tables, chunks of GSD files, keys of JSON files."""
    form: dict[str, Any] = {}
    for path in sorted(path for path in folder.iterdir() if path.name != "log.txt"):
        if path.suffix == ".parquet":
            origin = json.loads(pl.read_parquet_metadata(path)["qlm_hoomd"])
            gained = GAINED.get(path.name, set())
            columns = [[name, str(kind)] for name, kind in pl.read_parquet_schema(path).items() if name not in gained]
            form[path.name] = {"columns": columns, "provenance": sorted(origin)}
        elif path.suffix == ".gsd":
            with gsd.fl.open(path, "r") as file:
                chunks = {RENAMED.get(chunk, chunk) for chunk in file.find_matching_chunk_names("")}
            form[path.name] = sorted(chunks - GAINED.get(path.name, set()) - DRAWN)
        elif path.suffix == ".json":
            form[path.name] = sorted(json.loads(path.read_text(encoding="utf-8")))
        else:
            form[path.name] = None
    return form


def forms_of(folders: dict[str, Path]) -> dict[str, Any]:
    """The files of each realisation, and what is in them, which is the same in all."""
    forms = {job_id: form_of(folder) for job_id, folder in folders.items()}
    contents: dict[str, Any] = {}
    for form in forms.values():
        for name, content in form.items():
            if name != "checksums.json":  # whose keys are the files
                assert contents.setdefault(name, content) == content, name
    return {"files": {job_id: list(form) for job_id, form in forms.items()}, "contents": contents}


def realisations(run: Path, protocol: Protocol) -> dict[str, Path]:
    return {job_id: run / "workspace" / job_id for job_id in map(calc_id, protocol.statepoints())}


def why_other_bits(recorded: dict[str, str]) -> str | None:
    """Why numbers made here cannot have the bits of those that were recorded with these versions; None if they can."""
    here = {name: version(name) for name in LIBRARIES}
    others = [f"{name} {here[name]}, not {recorded[name]}" for name in here if here[name] != recorded.get(name)]
    if others:
        return f"other libraries than recorded: {', '.join(others)}"
    if platform.machine() != "x86_64" or not llvmlite.binding.get_host_cpu_features().get("avx2", False):
        return f"{platform.machine()} without AVX2"
    return None


def assert_same_numbers(folders: dict[str, Path], name: str, part: str) -> None:
    """The numbers of realisations: all of them to the bits, or those of events and the end of the shear to a tolerance."""
    recorded, versions = read(name)[part], read(name)["versions"]
    found = {job_id: numbers_of(folder) for job_id, folder in folders.items()}
    assert set(found) <= set(recorded)
    for job_id, numbers in found.items():
        if name in SAME_BITS and why_other_bits(versions) is None:
            assert numbers == recorded[job_id]
        for table in ("events", "end"):
            assert list(numbers[table]) == list(recorded[job_id][table])
            for column, rows in recorded[job_id][table].items():
                _assert_close(numbers[table][column], rows, column, TOLERANCE if column in SECOND_ORDER else AT_REST[name])


def _assert_close(found: Any, expected: Any, column: str, tolerance: float) -> None:
    if isinstance(expected, list):
        assert len(found) == len(expected), column
        for one, other in zip(found, expected, strict=True):
            _assert_close(one, other, column, tolerance)
    elif isinstance(expected, str) and isinstance(found, str) and column != "detector":
        one, other = float.fromhex(found), float.fromhex(expected)
        small = TOLERANCE if column == "strain_c_error" else 0.0
        close = math.isclose(one, other, rel_tol=tolerance, abs_tol=small)
        assert close or (math.isnan(one) and math.isnan(other)), (column, one, other)
    else:
        assert found == expected, column


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        # Python before 3.11.4 has no filters.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    return folder / name


# ---- the smallest run ----

PREPARED_HERE = "0aa3411171fd8532aeeb6f0f989b3686"
"""The realisation of which ``smoke_run.tar.gz`` has no glass."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The realisations of the smallest run: one from its start, the others from the quenched glasses of the recorded code."""
    run = unpacked("smoke_run", tmp_path_factory.mktemp("smoke"))
    work_through(SMOKE, run)
    return realisations(run, load_protocol(SMOKE))


def test_smallest_run_makes_the_same_numbers_of_the_same_glasses(smoke: dict[str, Path]) -> None:
    folders = {job_id: folder for job_id, folder in smoke.items() if job_id != PREPARED_HERE}
    assert len(folders) == 3
    assert_same_numbers(folders, "smoke.json", "numbers")


def test_smallest_run_makes_the_same_glass(smoke: dict[str, Path]) -> None:
    reason = why_other_bits(read("smoke.json")["versions"])
    if reason is not None or "liquid" not in SAME_BITS:
        pytest.skip(f"{reason or 'the code rounds otherwise'}: the liquid is chaotic, and another glass comes out")
    assert_same_numbers({PREPARED_HERE: smoke[PREPARED_HERE]}, "smoke.json", "numbers")


def test_smallest_run_makes_the_same_files_columns_and_chunks(smoke: dict[str, Path]) -> None:
    assert forms_of(smoke) == read("smoke.json")["form"]


# ---- a run that older code began ----

# golden_run.tar.gz is a folder that `qlm run` of the recorded code made: one realisation is done, the other was stopped by
# SIGTERM within its shear.
OLD_PROTOCOL = GOLDEN / "golden.yaml"


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The old run after `qlm run`, and the files of its finished realisation before that."""
    run = unpacked("golden_run", tmp_path_factory.mktemp("continued"))
    finished, _ = realisations(run, load_protocol(OLD_PROTOCOL)).values()
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert "report.html" in qlm("run", OLD_PROTOCOL, "--out", run, "--workers", "1").stdout
    return run, before


def test_old_run_is_read_and_verified(tmp_path: Path) -> None:
    run = unpacked("golden_run", tmp_path)
    shown = CliRunner().invoke(app, ["status", str(run), "--json"])
    assert shown.exit_code == 0, shown.output
    state = json.loads(shown.stdout)
    assert (state["name"], state["protocol_hash"], state["n_realisations"]) == ("golden", load_protocol(OLD_PROTOCOL).hash, 2)
    stages = {kind: (each["done"], each["failed"], each["pending"]) for kind, each in state["groups"][0]["stages"].items()}
    assert stages == {"prepare": (2, 0, 0), "shear": (1, 0, 1), "modes": (1, 0, 1), "structure": (1, 0, 1)}
    proof = CliRunner().invoke(app, ["verify", str(run)])
    assert proof.exit_code == 0, proof.output
    assert "14 files" in proof.output


def test_old_run_goes_on_to_the_numbers_that_it_would_have_had(continued: tuple[Path, dict[str, bytes]]) -> None:
    run, before = continued
    folders = realisations(run, load_protocol(OLD_PROTOCOL))
    assert_same_numbers(folders, "golden_run.json", "continued")
    finished, interrupted = folders.values()
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    # Other code than that of the checkpoint begins the stage anew. It must say so, of a checkpoint that it could read.
    log = interrupted / "log.txt"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    for line in (line for line in lines if ".checkpoint" in line):
        said = re.search(r"\.shear\.checkpoint is the checkpoint of another run \((.*) differ\)", line)
        assert said is not None, line
        assert set(said[1].split(", ")) <= {"code", "provenance"}


def test_report_of_an_old_run_holds_what_it_and_the_new_code_made(continued: tuple[Path, dict[str, bytes]]) -> None:
    run, _ = continued
    assert (run / "results" / "report.html").stat().st_size > 0
    events = pl.read_parquet(run / "results" / "events.parquet")
    tables = [pl.read_parquet(folder / "events.parquet") for folder in realisations(run, load_protocol(OLD_PROTOCOL)).values()]
    assert sorted(events["strain_c"]) == sorted(pl.concat(tables, how="diagonal")["strain_c"])
    assert events.height == 3
    # The finished realisation is older than these columns.
    for name in ("events", "modes"):
        table = pl.read_parquet(run / "results" / f"{name}.parquet")
        assert GAINED[f"{name}.parquet"] <= set(table.columns)


def test_old_run_goes_further_where_its_strain_max_is_raised(continued: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(continued[0], run)
    text = OLD_PROTOCOL.read_text(encoding="utf-8")
    raised = tmp_path / "raised.yaml"
    raised.write_text(text.replace("strain_max: 0.06", "strain_max: 0.1"), encoding="utf-8")
    work_through(raised, run)
    before, after = (realisations(run, load_protocol(protocol)) for protocol in (OLD_PROTOCOL, raised))
    assert_same_numbers(after, "golden_run.json", "raised")
    for folder, further in zip(before.values(), after.values(), strict=True):
        # The liquid is not made a second time, and what was there is as it was.
        assert (folder / "quenched.gsd").samefile(further / "quenched.gsd")
    assert_same_numbers(before, "golden_run.json", "continued")
    assert forms_of(before | after) == read("golden_run.json")["form"]
