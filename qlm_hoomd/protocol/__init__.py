"""The protocol: one YAML file that says which glasses to make, what to do with them, and what to report.

The models are the reference of the file format; ``qlm schema`` prints them as JSON Schema, plugins included. Every problem
of a file is reported in one go, each with its line, the fact, and what was expected.
"""

from qlm_hoomd.model import Preparation
from qlm_hoomd.protocol.models import MAX_REALISATIONS, Analysis, Ensemble, Protocol, SampleSelection, protocol_hash, schema
from qlm_hoomd.protocol.reading import build_protocol, explain, load_protocol, stored_protocol
from qlm_hoomd.protocol.yaml import read_settings

__all__ = [
    "MAX_REALISATIONS",
    "Analysis",
    "Ensemble",
    "Preparation",
    "Protocol",
    "SampleSelection",
    "build_protocol",
    "explain",
    "load_protocol",
    "protocol_hash",
    "read_settings",
    "schema",
    "stored_protocol",
]
