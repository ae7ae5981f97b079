"""synth: a corpus that speaks itself with espeak-ng, with the exact time of every word and phone."""

from speechmm.data.corpora.synth.corpus import prepare

__all__ = ["prepare"]
