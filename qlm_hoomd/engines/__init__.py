"""Engines: what moves and relaxes glasses."""
