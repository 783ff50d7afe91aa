"""Ensembles on disk: the workspace of realisations, the runner of their stages, and the executors that spread them."""
