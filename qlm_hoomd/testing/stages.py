"""What every stage must do."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from qlm_hoomd.base.registry import STAGES
from qlm_hoomd.ensemble.runner import run_realisation
from qlm_hoomd.ensemble.workspace import Workspace
from qlm_hoomd.protocol import build_protocol
from qlm_hoomd.stages.base import RESERVED_FILES, RESERVED_TABLES
from qlm_hoomd.testing.settings import SettingsConformance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from qlm_hoomd.protocol import Protocol
    from qlm_hoomd.stages.base import Stage


class StageConformance(SettingsConformance):
    """Suite for stages.

    Attributes:
        protocol: settings of a small protocol, as a YAML file would give them, whose last stage is the one to test. One
            realisation of it is run.
    """

    group = STAGES
    protocol: ClassVar[Mapping[str, Any]]

    def settings_under_test(self) -> BaseModel:
        """The stage."""
        return self.stage

    @property
    def built(self) -> Protocol:
        """The protocol, validated."""
        return build_protocol(self.protocol)

    @property
    def stage(self) -> Stage:
        """The stage to test."""
        return self.built.stages[-1]

    def test_files_have_plain_names(self) -> None:
        """Products and requirements are files in the realisation's folder."""
        products, required = (*self.stage.products(), *self.stage.optional_products()), self.stage.requires()
        assert self.stage.products(), "no products; expected at least one, which tells that the stage is done"
        for name in (*products, *required):
            assert len(PurePosixPath(name).parts) == 1, f"'{name}'; expected the name of a file in the realisation's folder"
            assert not name.startswith("."), f"'{name}'; expected a visible file"
            assert name not in RESERVED_FILES, f"'{name}' belongs to the workspace"
            assert name.removesuffix(".parquet") not in RESERVED_TABLES, f"'{name}' is a table of the report's own"
        assert not set(products) & set(required), "the stage reads what it writes"

    def test_running_again_gives_the_same_bytes(self) -> None:
        """A stage that is run again after a crash ends in the same bytes, with provenance in every table."""
        with TemporaryDirectory() as folder:
            directory = Path(folder)
            workspace = Workspace.create(self.built, directory)
            realisation = workspace.realisations[0]
            first = self._run(directory, realisation.directory)
            for product in first:
                (realisation.directory / product).unlink()
            second = self._run(directory, realisation.directory)
            different = [product for product in first if first[product] != second[product]]
            assert not different, f"{different} differ when they are made again"
            leftovers = [path.name for path in realisation.directory.glob(".*")]
            assert not leftovers, f"{leftovers} are left behind; expected `context.product` for every file"
            self._assert_provenance(workspace, realisation.directory)

    def _run(self, directory: Path, realisation: Path) -> dict[str, bytes]:
        outcome = run_realisation(directory, realisation.name)
        assert outcome.failure is None, f"the realisation failed: {outcome.failure}"
        return {product: (realisation / product).read_bytes() for product in self.stage.products()}

    def _assert_provenance(self, workspace: Workspace, realisation: Path) -> None:
        for product in self.stage.products():
            if product.endswith(".parquet"):
                carried = json.loads(pl.read_parquet_metadata(realisation / product)["qlm_hoomd"])
                assert carried["protocol_hash"] == workspace.protocol.hash, f"{product} does not carry the protocol's hash"
                assert carried["versions"], f"{product} does not carry versions"
