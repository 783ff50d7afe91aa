"""The pair potential that a user names in a few words, as on the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qlm_hoomd.base.errors import InputError
from qlm_hoomd.base.registry import POTENTIALS
from qlm_hoomd.base.settings import sentences
from qlm_hoomd.model import GlassModel
from qlm_hoomd.potentials import PairPotential
from qlm_hoomd.protocol.reading import load_protocol

# Moduli want a force, and a slope of it, without jumps at the cut-off.
_SMOOTH = 2
_FILE_KINDS = (".yaml", ".yml", ".json")


def potential_from_spec(spec: str) -> PairPotential:
    """The pair potential that a user names on the command line.

    Args:
        spec: ``name``, ``name:key=value,key=value`` with YAML values (``harmonic:sigma=[[1, 1.2], [1.2, 1.4]]``), or a YAML
            file with the settings of a potential or with a whole protocol, whose model is then meant. A potential that has to
            be told how smoothly it ends (``q``) gets a force and a slope of it without jumps, q = 2, where that is not named.

    Raises:
        InputError: if there is no such potential, or a setting is wrong.
    """
    if spec.lower().endswith(_FILE_KINDS):
        settings = _yaml(Path(spec))
        if isinstance(settings, dict) and "stages" in settings:
            return load_protocol(Path(spec)).model.potential
        if not isinstance(settings, dict) or "kind" not in settings:
            raise InputError(f"{spec}: no potential; expected a mapping with the key 'kind' (or a protocol).")
    else:
        kind, _, arguments = spec.partition(":")
        settings = {"kind": kind.strip()} | _arguments(arguments)
    try:
        try:
            return _validated(settings)
        except ValidationError as error:
            if [problem["loc"][-1] for problem in error.errors()] != ["q"] or "q" in settings:
                raise
            return _validated(settings | {"q": _SMOOTH})
    except ValidationError as error:
        kind = str(settings["kind"])
        model = POTENTIALS.load(kind) if kind in POTENTIALS.plugins else PairPotential
        text = "; ".join(sentences(error, model, within="potential"))
        raise InputError(f"potential {kind}: {text}{'' if text.endswith('?') else '.'}") from None


def _yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a YAML file.") from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path}: no YAML ({' '.join(str(error).split())}).") from None


def _arguments(text: str) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    settings: dict[str, Any] = {}
    # Commas inside brackets belong to a value.
    for part in re.findall(r"(?:[^,\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])+", text):
        key, equals, value = part.partition("=")
        try:
            settings[key.strip()] = YAML(typ="safe", pure=True).load(value) if equals else None
        except (YAMLError, ValueError):
            equals = ""
        if not equals:
            raise InputError(f"--potential: '{part.strip()}'; expected name:key=value,key=value with YAML values.")
    return settings


def _validated(settings: dict[str, Any]) -> PairPotential:
    # The model knows the defaults of the paper's potential; a fraction of zero asks for no second particle type.
    return GlassModel.model_validate({"potential": settings, "fraction_large": 0.0}).potential
