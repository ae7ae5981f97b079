"""Compiled loops over frames and tokens: the only place that imports numba."""
