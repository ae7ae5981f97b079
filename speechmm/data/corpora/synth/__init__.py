"""The spoken demo corpus: sentences, voices, and the exact time of every word and phone."""

from speechmm.data.corpora.synth.corpus import ABOUT, NEEDS_ROOT, OPTIONS, prepare

__all__ = ["ABOUT", "NEEDS_ROOT", "OPTIONS", "prepare"]
