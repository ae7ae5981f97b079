"""Loads the external scorers a search is to use: language model, hotwords, lexicon."""

from __future__ import annotations

from pathlib import Path

from speechmm.data.skips import SkipReport
from speechmm.errors import CheckpointError, ConfigError, ManifestError
from speechmm.files.pipes import is_readable
from speechmm.files.text import read_text
from speechmm.inference.recognition.fusion.hotwords import HotwordScorer
from speechmm.inference.recognition.fusion.lexicon import LexiconScorer
from speechmm.inference.recognition.fusion.neural_lm import LanguageModelScorer
from speechmm.inference.recognition.fusion.ngram import NgramScorer
from speechmm.inference.recognition.fusion.scorer import Scorer
from speechmm.inference.recognition.options import FusionOptions
from speechmm.models.bundle import load_language_model
from speechmm.text.ngram import NgramModel
from speechmm.text.tokenizer import Tokenizer


def load_scorers(
    options: FusionOptions, tokenizer: Tokenizer, *, skipped: SkipReport
) -> list[Scorer]:
    """The external scores that are asked for.

    Args:
        options: What to load.
        tokenizer: That of the model.
        skipped: Where texts of the lexicon that cannot be read are noted.

    Raises:
        ManifestError: A file cannot be read, or holds no text.
        CheckpointError: The language model cannot be used.
        ConfigError: The lexicon has no words, or the model writes phones.
    """
    scorers: list[Scorer] = []
    if options.lm is not None:
        scorers.append(load_language_scorer(options.lm, tokenizer, options.lm_weight))
    if options.hotwords is not None:
        phrases = read_phrases(options.hotwords)
        scorers.append(HotwordScorer(phrases, tokenizer, options.hotword_bonus))
    if options.words is not None:
        from speechmm.data.texts import read_texts

        _check_spelling(tokenizer, "words")
        texts = (text for path in options.words for text in read_texts(path, skipped))
        scorers.append(LexiconScorer(texts, tokenizer, options.oov_penalty))
    return scorers


def read_phrases(file_or_list: str) -> list[str]:
    """The lines of a file or pipe of that name, else what stands between commas.

    Raises:
        ManifestError: The file cannot be read as text, there is none although the one phrase is a file's
            name, or there is no phrase.
    """
    path = Path(file_or_list)
    is_file = is_readable(path)
    if not is_file and "," not in file_or_list and _names_a_file(file_or_list):
        raise ManifestError(
            f"hotwords: {path} is no file; expected one, or phrases with commas between them. Correct the "
            "path."
        )
    lines = read_text(path).splitlines() if is_file else file_or_list.split(",")
    phrases = [line.strip() for line in lines if line.strip()]
    if not phrases:
        raise ManifestError(
            f"hotwords: found none in {file_or_list!r}; expected at least one phrase. Add it, or leave "
            "--hotwords out."
        )
    return phrases


def _check_spelling(tokenizer: Tokenizer, flag: str) -> None:
    if tokenizer.kind == "phone":
        raise ConfigError(
            f"--{flag}: the model writes phones; expected one that writes words as texts have them. "
            "Leave it out, or train a language model with the model's tokenizer (kind: lm) for --lm."
        )


def _names_a_file(phrase: str) -> bool:
    """Whether what is no file was meant as one: by its ending, or as its folder is there."""
    path = Path(phrase)
    try:
        return path.suffix == ".txt" or path.is_dir() or ("/" in phrase and path.parent.is_dir())
    except OSError:  # longer than names may be
        return False


def load_language_scorer(path: Path, tokenizer: Tokenizer, weight: float) -> Scorer:
    """An ARPA file, or the bundle of a language model over the same pieces.

    Raises:
        ManifestError: The ARPA file cannot be used.
        CheckpointError: The bundle cannot be used, or has another tokenizer.
        ConfigError: The n-grams are of words, and the model writes phones.
    """
    if not path.is_dir():
        _check_spelling(tokenizer, "lm")
        return NgramScorer(NgramModel.read(path), tokenizer, weight)
    bundle = load_language_model(path)
    if bundle.tokenizer.pieces != tokenizer.pieces:
        raise CheckpointError(
            f"{path}: has another tokenizer than the model ({bundle.tokenizer.vocab_size} pieces "
            f"and {tokenizer.vocab_size}); expected the same one. Train it with the model's "
            "tokenizer.json."
        )
    return LanguageModelScorer(bundle.model, weight)
