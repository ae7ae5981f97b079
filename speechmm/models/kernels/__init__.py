"""Loops over frames and tokens, by numba, by Triton and in tensors: the only place that imports numba."""
