"""Loads the external scorers a search is to use: language model, hotwords, lexicon."""

from __future__ import annotations

from pathlib import Path

from speechmm.errors import CheckpointError
from speechmm.inference.recognition.fusion.neural_lm import LanguageModelScorer
from speechmm.inference.recognition.fusion.ngram import NgramScorer
from speechmm.inference.recognition.fusion.scorer import Scorer
from speechmm.models.bundle import load_language_model
from speechmm.text.ngram import NgramModel
from speechmm.text.tokenizer import Tokenizer


def load_language_scorer(path: Path, tokenizer: Tokenizer, weight: float) -> Scorer:
    """An ARPA file, or the bundle of a language model over the same pieces.

    Raises:
        ManifestError: The ARPA file cannot be used.
        CheckpointError: The bundle cannot be used, or has another tokenizer.
    """
    if not path.is_dir():
        return NgramScorer(NgramModel.read(path), tokenizer, weight)
    bundle = load_language_model(path)
    if bundle.tokenizer.pieces != tokenizer.pieces:
        raise CheckpointError(
            f"{path}: has another tokenizer than the model ({bundle.tokenizer.vocab_size} pieces "
            f"and {tokenizer.vocab_size}); expected the same one. Train it with the model's "
            "tokenizer.json."
        )
    return LanguageModelScorer(bundle.model, weight)
