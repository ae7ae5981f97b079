"""Speaks and pronounces text with espeak-ng as a library."""
