"""The reference of every key of a protocol, written from the same JSON Schema that `qlm schema` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qlm_hoomd.protocol import schema
from qlm_hoomd.registry import DETECTORS, ENGINES, POTENTIALS, STAGES

Json = Mapping[str, Any]

_HEADER = """\
# Protocol reference

Every key of a protocol file, with what it means, what it accepts and what it is when it is left out. The page is written from the JSON Schema that `qlm schema`
prints, with the plugins that come along installed; yours show up in `qlm schema` as soon as they are installed.

A key that does not exist, or a value out of range, is an error that names the line. An editor that speaks the YAML language server completes keys:

```sh
qlm schema > protocol.schema.json
```

```yaml
# yaml-language-server: $schema=protocol.schema.json
```
"""
_GROUPS = (
    ("model.potential", "Pair potentials", POTENTIALS),
    ("engine", "Engines", ENGINES),
    ("stages", "Stages", STAGES),
    ("stages: shear: detector", "Detectors of instabilities", DETECTORS),
)


def write(path: Path) -> None:
    """Write the page to ``path``."""
    path.write_text("\n".join(_page(schema())) + "\n", encoding="utf-8")


def keys(document: Json) -> set[str]:
    """Every key that some mapping of a protocol accepts."""
    return {key for definition in (document, *document["$defs"].values()) for key in definition.get("properties", {})}


def _page(document: Json) -> Iterator[str]:
    definitions = document["$defs"]
    written = {"Protocol"}
    yield _HEADER
    yield "## The file"
    yield from _table(document, definitions)
    for name, title in (
        ("GlassModel", "model"),
        ("SizeDistribution", "model: sizes"),
        ("Ensemble", "ensemble"),
        ("Preparation", "ensemble: preparations: NAME"),
        ("Analysis", "analysis"),
        ("SampleSelection", "analysis: select"),
    ):
        written.add(name)
        yield from _section(f"`{title}`", definitions[name], definitions, level=2)
    for place, title, group in _GROUPS:
        yield f"## {title}\n"
        yield f"The key `{place}`. The mapping has the key `kind`, which chooses among these, and the keys of that kind.\n"
        for kind in group.plugins:
            name, definition = next(
                (name, found)
                for name, found in definitions.items()
                if found["properties"].get("kind", {}).get("const") == kind and name == group.load(kind).__name__
            )
            written.add(name)
            yield from _section(f"`kind: {kind}`", definition, definitions, level=3)
    for name in sorted(set(definitions) - written):
        yield from _section(name, definitions[name], definitions, level=2)


def _section(title: str, definition: Json, definitions: Json, *, level: int) -> Iterator[str]:
    yield f"{'#' * level} {title}\n"
    yield _text(definition.get("description", "").split("\n\n")[0]) + "\n"
    yield from _table(definition, definitions)


def _table(definition: Json, definitions: Json) -> Iterator[str]:
    rows = [(key, value) for key, value in definition.get("properties", {}).items() if not ("const" in value and key == "kind")]
    if not rows:
        return
    required = definition.get("required", [])
    yield "| key | accepts | default | meaning |"
    yield "|---|---|---|---|"
    for key, value in rows:
        default = "**required**" if key in required else _default(value)
        yield f"| `{key}` | {_accepts(value, definitions)} | {default} | {_text(value.get('description', ''))} |"
    yield ""


def _default(value: Json) -> str:
    default = value.get("default")
    if isinstance(default, dict):
        return "its defaults" if default.get("kind") is None else f"`{default['kind']}`"
    return "nothing" if default is None else f"`{json.dumps(default)}`"


def _accepts(value: Json, definitions: Json) -> str:
    """What a value may be, in words."""
    if "$ref" in value:
        return "a mapping"
    for union in ("anyOf", "oneOf"):
        if union in value:
            if "discriminator" in value:
                return "a mapping with `kind`"
            return " or ".join(dict.fromkeys(_accepts(member, definitions) for member in value[union]))
    if "enum" in value:
        return ", ".join(f"`{member}`" for member in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"a list, each {_accepts(value.get('items') or value['prefixItems'][0], definitions)}"
    if kind == "object":
        return "a mapping"
    words = {
        "number": "a number",
        "integer": "an integer",
        "string": "a text",
        "boolean": "`true` or `false`",
        "null": "nothing",
    }
    return words[kind] + _range(value)


def _range(value: Json) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    # A bound that is the end of the number's own range says nothing.
    bounds = [f"{sign} {value[name]:g}" for name, sign in signs.items() if name in value and value[name] < 2**62]
    return f" {', '.join(bounds)}" if bounds else ""


def _text(text: str) -> str:
    """Plain text of a docstring in Markdown: what would be markup stays what it is."""
    text = " ".join(text.replace("``", "`").split())
    for sign in ("|", "*", "_", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return text
