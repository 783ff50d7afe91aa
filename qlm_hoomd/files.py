"""Files written whole or not at all, for plugins. They live in :mod:`qlm_hoomd.base.files`."""

from qlm_hoomd.base.files import is_plain_name, read_json, read_table, read_table_metadata, replacing

__all__ = ["is_plain_name", "read_json", "read_table", "read_table_metadata", "replacing"]
