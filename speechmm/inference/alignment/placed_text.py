"""Makes units and states of the text of an utterance, and finds which pronunciations were said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from speechmm.errors import AlignmentError, ConfigError, SpeechmmError
from speechmm.inference.alignment.state_graph import StateGraph
from speechmm.inference.alignment.token_path import silence_mask
from speechmm.inference.alignment.viterbi import Floats
from speechmm.inference.engine.sources import Source
from speechmm.options import EACH
from speechmm.text.align_units import AlignUnits, cut, is_spelled
from speechmm.text.phonemes import has_espeak, voice_of, voice_of_script
from speechmm.text.tokenizer import AlignedTokens


@dataclass(frozen=True)
class PlacedText:
    """A text in an utterance."""

    text: tuple[str, str | None]
    """It, and the voice that pronounces it where each utterance has its own."""
    aligned: AlignedTokens
    labels: list[str]
    graph: StateGraph
    said: list[list[str]]
    """The units of each word."""
    variants: list[list[list[str]]]
    """The units of each of its pronunciations."""
    spelled: bool
    """Whether it is a string of phones (see :class:`AlignUnits`)."""

    def part(self, units: AlignUnits, first: int, last: int) -> PlacedText:
        """Words ``first`` to ``last - 1`` of it."""
        text = " ".join(self.aligned.words[first:last]), self.text[1]
        own = self.said[first:last], self.variants[first:last]
        return _placed(units, text, *own, spelled=self.spelled)


def place_text(units: AlignUnits, source: Source) -> PlacedText:
    """The text of an utterance as units and as states, each word in its first pronunciation.

    Raises:
        AlignmentError: There is no text, no word of it is left, or a word has no pronunciation.
    """
    voice = utterance_voice(source) if units.language == EACH else None
    text = source.transcript()
    if units.lexicon is not None and units.language is None:
        missing = units.lexicon.missing(text.split())
        if missing:
            raise AlignmentError(
                f"{source.name}: the lexicon has no pronunciation of {' '.join(missing)}; expected one of "
                "every word. Add them, or name a voice with --language that pronounces what is not listed."
            )
    variants = units.pronounce(text, voice)
    said = [one[0] for one in variants]
    spelled = units.takes_for_phones(said, voice)
    placed = _placed(units, (text, voice), said, variants, spelled=spelled)
    if len(placed.labels) == 1:
        raise AlignmentError(
            f"{source.name}: no word of its text is left after the normalizer; expected at least one. "
            "Correct the text."
        )
    return placed


def _placed(
    units: AlignUnits,
    text: tuple[str, str | None],
    said: list[list[str]],
    variants: list[list[list[str]]],
    *,
    spelled: bool,
) -> PlacedText:
    aligned, labels = units.encode(*text, said=said, spelled=spelled)
    graph = StateGraph.of(aligned.ids, silence_mask(aligned).tolist())
    return PlacedText(text, aligned, labels, graph, said, variants, spelled)


def likeliest_pronunciations(units: AlignUnits, text: PlacedText, scores: Floats) -> PlacedText:
    """The text with the pronunciations that the recording speaks for.

    Word by word, from left to right: the one under which the sum of all paths is largest, the others
    being as they are.

    Args:
        units: Of the aligner.
        text: As it was placed.
        scores: (frames, columns) of the recording, log-likelihoods up to a constant a frame.
    """
    best = None
    for index, variants in enumerate(text.variants):
        for variant in variants if len(variants) > 1 else ():
            if variant == text.said[index]:
                continue
            said = [*text.said[:index], variant, *text.said[index + 1 :]]
            other = _placed(units, text.text, said, text.variants, spelled=text.spelled)
            best = text.graph.log_likelihood(scores) if best is None else best
            likelihood = other.graph.log_likelihood(scores)
            if likelihood > best:
                text, best = other, likelihood
    return text


def utterance_voice(source: Source) -> str | None:
    """The voice of espeak-ng that pronounces an utterance; None for strings of phones, and for letters.

    It is that of its language, or where nothing says which that is, one for its script.

    Raises:
        AlignmentError: There is no text.
        ConfigError: espeak-ng has no voice for its language, or is not installed.
    """
    if not source.language:
        text = source.transcript()
        spelled = is_spelled([cut(word, None) for word in text.split()])
        return None if spelled or not has_espeak() else voice_of_script(text)
    voice = voice_of(source.language)
    if voice is None:
        raise ConfigError(
            f"{source.name}: espeak-ng has no voice for its language, {source.language!r}; expected one "
            "that it has. Give that of a language that is like it, in the manifest or by align --language."
        )
    return voice


def guessed_voices(sources: Iterable[Source]) -> str | None:
    """How texts are pronounced of which nobody has said the language; None where all have one."""
    guessed: Counter[str] = Counter()
    for source in sources:
        with suppress(SpeechmmError):
            if not source.language:
                guessed[utterance_voice(source) or "letters or strings of phones"] += 1
    if not guessed:
        return None
    voices = ", ".join(f"{name} ({count})" for name, count in guessed.most_common())
    return f"no language is named: texts are pronounced as {voices}"
