"""Renew exponents.json and minima.parquet of this folder from its tables, with the gates of the present code.

`python docs/results/renew.py` prints the tables of index.md, too.

The tables of steps are too large to be kept here. The analysis asks them how far each glass was sheared (every one went on to
the first instability beyond strain 0.12) and whether the stress is flat; that is known at the strains of the modes.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from qlm_hoomd.protocol import Analysis as Settings
from qlm_hoomd.report.analysis import analyse
from qlm_hoomd.report.numbers import AS_THRESHOLD, Analysis, Estimate

FOLDER = Path(__file__).parent
RUNS = {name: json.loads((FOLDER / f"protocol_{name}.json").read_text(encoding="utf-8")) for name in ("rapid", "slow")}


def tables() -> dict[str, pl.DataFrame]:
    """The tables of this folder; of the steps the stress where it is known, and where each glass ended."""
    found = {name: pl.read_parquet(FOLDER / f"{name}.parquet") for name in ("events", "modes", "moduli", "structure")}
    keys = ("preparation", "n_particles", "realisation")
    # Single precision is what the page needs; the analysis works in double.
    found = {name: table.cast({pl.Float32: pl.Float64}) for name, table in found.items()}
    ends = found["events"].group_by(keys).agg(strain=pl.col("strain_c").max())
    steps = pl.concat([found["moduli"].select(*keys, "strain", "stress_xy"), ends], how="diagonal").sort(*keys, "strain")
    # Nothing is asked beyond the last strain at which the stress is known.
    found["steps"] = steps.with_columns(pl.col("stress_xy").forward_fill().over(keys), travelled="strain")
    return found


def row(numbers: Analysis, preparation: str, strain: float) -> str:
    """The numbers of a strain as a row of a table in Markdown; in round brackets what is withheld."""

    def found(quantity: str, method: str, detector: str | None) -> Estimate:
        return numbers.find(
            quantity=quantity, method=method, preparation=preparation, strain=strain, detector=detector, pooled=None
        )[0]

    thetas = [found("theta", "gamma_min", detector) for detector in ("fold", AS_THRESHOLD)]
    softest, spectrum = found("alpha", "omega_min", None), numbers.spectrum_estimate(preparation, strain)
    cells = [f"{strain:g}"]
    cells += [f"{e.fit.slope:.2f} ± {e.fit.slope_error:.2f} | {value(e)}" if e.fit else "– | –" for e in (*thetas, softest)]
    return f"| {' | '.join([*cells, value(spectrum)])} |"


def value(estimate: Estimate) -> str:
    """An exponent with its interval; in round brackets where it is withheld."""
    exponent = estimate.exponent
    words = f"{exponent.value:.2f} [{exponent.low:.2f}, {exponent.high:.2f}]"
    return f"({words})" if estimate.status == "withheld" else words


def analysis() -> Analysis:
    """What the present code finds in these tables."""
    protocol = RUNS["rapid"]
    settings = Settings.from_protocol(protocol)
    return analyse(tables(), settings, preparations=tuple(RUNS), density=protocol["model"]["density"])


if __name__ == "__main__":
    found = analysis()
    path = FOLDER / "exponents.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    carried = {name: old[name] for name in ("protocol", "protocol_hash", "runs", "versions")}
    path.write_text(json.dumps(carried | found.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    provenance = {name: carried[name] for name in ("protocol_hash", "versions")}
    found.minima.write_parquet(FOLDER / "minima.parquet", metadata={"qlm_hoomd": json.dumps(provenance)})
    for name in RUNS:
        print(f"\n{name}")
        for strain in found.settings.strains:
            print(row(found, name, strain))
