"""Decides what is asked of the decoder: to write what is said in a language, or to translate it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from speechmm.alignments import Segment
from speechmm.alignments.scripts import pieces
from speechmm.errors import ConfigError
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.text_decoder import Tag
from speechmm.text.languages import known_language, languages_of, tag_of


class AskedLanguage:
    """The tag that a search begins with, for each utterance the one of its language."""

    def __init__(self, bundle: Bundle, options: SearchOptions) -> None:
        """Looks whether the model can do what is asked.

        Raises:
            ConfigError: It has not learned the task, or not in this language.
        """
        self.model: SpeechTextModel = bundle.model
        self.language = ""
        """Of what is written, where all utterances have the same; "" otherwise."""
        self.choices: tuple[str, ...] = ()
        """Languages that the decoder is to choose from."""
        self.tag = "asr"
        if not options.uses_decoder:
            return
        names = bundle.model.decoder.names
        known = languages_of(options.task, names)
        if not (known or options.task in names):
            raise ConfigError(
                f"{bundle.path}: its decoder was trained on {', '.join(names)}; expected {options.task}, "
                f"which is asked for. Choose another task, or train model.tasks.{options.task} too."
            )
        if options.task == "translate":
            self.language = _target(options.target_language, known)
        elif options.language is not None:
            self.language = known_language(
                options.language,
                known,
                asked_by="--language",
                learned="which the model can recognise",
            )
        elif len(known) == 1:
            self.language = known[0]
        else:
            self.choices = known
        self.tag = tag_of(options.task, self.language)

    def ask(self, encoding: SpeechEncoding) -> tuple[Tag, Int[Tensor, " batch"] | None]:
        """The tag of each utterance, and which of ``choices`` it is where there are some."""
        if not self.choices:
            return self.tag, None
        with torch.inference_mode():
            chosen = self.model.language_logits(encoding).argmax(dim=1)
        return chosen + self.model.decoder.tags_of("asr").start, chosen

    def names(self, chosen: Int[Tensor, " batch"] | None, count: int) -> list[str]:
        """The languages of what was written; "" where the model knows of none."""
        if chosen is None:
            return [self.language] * count
        return [self.choices[place] for place in chosen.tolist()]


def _target(wanted: str | None, known: tuple[str, ...]) -> str:
    if wanted is not None:
        return known_language(
            wanted, known, asked_by="--target-language", learned="into which it can translate"
        )
    if len(known) > 1:
        raise ConfigError(
            f"--target-language: none is given; expected one of {', '.join(known)}, which the model can "
            "translate into. Choose one of these."
        )
    return known[0]


def most_written(parts: Iterable[tuple[str, Sequence[Segment]]]) -> str:
    """The language of most words, of scripts without spaces of most letters; "" where there are none.

    Args:
        parts: Languages, and the words that were written in them.
    """
    counts: Counter[str] = Counter()
    for language, words in parts:
        counts[language] += sum(len(pieces(word.label)) for word in words)
    best = counts.most_common(1)
    return best[0][0] if best and best[0][1] else ""
