"""Matches transcripts with references, normalises and scores them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speechmm.alignments.ids import match_ids
from speechmm.alignments.scripts import without_phrase_spaces
from speechmm.errors import ManifestError
from speechmm.evaluation.error_rate import (
    UtteranceErrors,
    score_folded_words,
    score_texts,
    total_counts,
)
from speechmm.evaluation.report_types import OtherRate
from speechmm.evaluation.text_lines import UtteranceText
from speechmm.evaluation.text_sets import TextSet, read_text_set, with_ids_of, with_own_ids
from speechmm.evaluation.unscored import scored_parts, warn_of_untimed
from speechmm.text.multilingual import folded
from speechmm.text.normalize import (
    FOLDED_NORMALIZERS,
    NORMALIZERS,
    check_normalizer,
    normalize,
)

ReadTexts = Callable[[Path], TextSet]
"""Reads the texts of a file or folder."""


@dataclass(frozen=True)
class Scored:
    """All utterances of one system, in the order of the references."""

    hypothesis: Path
    reference: Path
    normalizer: str
    ids: list[str]
    sources: list[UtteranceText]
    """What is known of each: speaker, audio, time, confidence; the text is the reference's."""
    references: list[str]
    """Normalised."""
    hypotheses: list[str]
    """Normalised; "" where there is none. Words that are right are spelled as in the reference."""
    words: list[UtteranceErrors]
    characters: list[UtteranceErrors]
    missing: list[str]
    """Ids without a hypothesis: all their words count as deleted."""
    extra: list[str]
    """Ids without a reference: they cannot be counted."""
    by_order: bool
    """Matched by the order of lines, not by id."""
    respelled: int = 0
    """Right words that differ from the reference in what `text.multilingual.folded` leaves out."""
    unscored: int = 0
    """Words of the hypotheses left out: the reference says of their times that nothing counts."""
    untimed: tuple[str, ...] = ()
    """Ids with such times whose hypotheses have no times of words, and so are counted whole."""


def score_files(
    hypothesis: Path, reference: Path, normalizer: str, *, read: ReadTexts = read_text_set
) -> Scored:
    """Matches the two files by id (plain lines by order), normalises and scores.

    Args:
        hypothesis: What was written.
        reference: What is right.
        normalizer: What both go through.
        read: Reads the references.

    Raises:
        ConfigError: There is no such normalizer.
        ManifestError: A file cannot be read, the two have no utterance in common, or plain lines
            differ in number.
    """
    check_normalizer(normalizer)
    return score_sets(*_read_pair(hypothesis, reference, read), normalizer)


def score_sets(hyp: TextSet, ref: TextSet, normalizer: str) -> Scored:
    """Normalises and scores texts whose ids are matched.

    Raises:
        ManifestError: The two have no utterance in common.
    """
    missing = [id for id in ref.by_id if id not in hyp.by_id]
    extra = [id for id in hyp.by_id if id not in ref.by_id]
    if len(missing) == len(ref.by_id):
        raise _nothing_in_common(hyp, ref)
    parts = scored_parts(hyp, ref)
    warn_of_untimed(parts.untimed, hyp, ref)
    hyp, ids = parts.hypotheses, list(ref.by_id)
    found = [hyp.by_id.get(id, UtteranceText("")) for id in ids]
    references = _normalized([ref.by_id[id].text for id in ids], normalizer)
    hypotheses = _normalized([text.text for text in found], normalizer)
    words = _word_errors(references, hypotheses, normalizer)
    spelled = [" ".join(one.hypothesis) for one in words]
    return Scored(
        hypothesis=hyp.path,
        reference=ref.path,
        normalizer=normalizer,
        ids=ids,
        sources=[
            _merged(ref.by_id[id], text, shifted=hyp.times_from_utterance)
            for id, text in zip(ids, found, strict=True)
        ],
        references=references,
        hypotheses=spelled,
        words=words,
        characters=_character_errors(references, hypotheses, normalizer),
        missing=missing,
        extra=extra,
        by_order=hyp.plain or ref.plain,
        respelled=sum(map(_differing_words, hypotheses, spelled)),
        unscored=parts.left_out,
        untimed=tuple(parts.untimed),
    )


def _word_errors(
    references: Sequence[str], hypotheses: Sequence[str], normalizer: str
) -> list[UtteranceErrors]:
    """Words compared as the normalizer wants it."""
    if normalizer in FOLDED_NORMALIZERS:
        return score_folded_words(references, hypotheses, folded)
    return score_texts(references, hypotheses)


def _character_errors(
    references: Sequence[str], hypotheses: Sequence[str], normalizer: str
) -> list[UtteranceErrors]:
    """Characters likewise: those of folded words, without spaces where a script divides no words."""
    if normalizer in FOLDED_NORMALIZERS:
        references, hypotheses = _folded_texts(references), _folded_texts(hypotheses)
    return score_texts(references, hypotheses, unit="character")


def _folded_texts(texts: Sequence[str]) -> list[str]:
    return [without_phrase_spaces(" ".join(map(folded, text.split()))) for text in texts]


def _differing_words(first: str, second: str) -> int:
    return sum(a != b for a, b in zip(first.split(), second.split(), strict=True))


def other_rates(
    hypothesis: Path,
    reference: Path,
    normalizer: str,
    *,
    read: ReadTexts = read_text_set,
    most: int = 4000,
    seed: int = 0,
) -> dict[str, OtherRate]:
    """What the word error rate would be with each of the other normalizers.

    Args:
        hypothesis: As for `score_files`.
        reference: Likewise.
        normalizer: The one in use, which is left out.
        read: Reads the references.
        most: Of more utterances than this, so many are drawn at random.
        seed: Of that choice.
    """
    hyp, ref = _read_pair(hypothesis, reference, read)
    hyp = scored_parts(hyp, ref).hypotheses
    ids = list(ref.by_id)
    if len(ids) > most:
        ids = sorted(random.Random(seed).sample(ids, most))
    references = [ref.by_id[id].text for id in ids]
    hypotheses = [hyp.by_id.get(id, UtteranceText("")).text for id in ids]
    rates: dict[str, OtherRate] = {}
    for name in NORMALIZERS:
        if name not in (normalizer, "turkish"):  # that one is for texts in such languages alone
            pair = (_normalized(references, name), _normalized(hypotheses, name))
            counts = total_counts(_word_errors(*pair, name))
            rates[name] = {"wer": counts.rate, "utterances": len(ids)}
    return rates


def _read_pair(hypothesis: Path, reference: Path, read: ReadTexts) -> tuple[TextSet, TextSet]:
    """Both files, the hypotheses under the ids of the references."""
    hyp, ref = read_text_set(hypothesis), read(reference)
    if hyp.plain and ref.plain:
        hyp, ref = with_own_ids(hyp, ref)
    if hyp.plain:
        return with_ids_of(hyp, ref), ref
    if ref.plain:
        return hyp, with_ids_of(ref, hyp)
    return replace(hyp, by_id=match_ids(hyp.by_id, ref.by_id.keys())), ref


def _normalized(texts: Sequence[str], normalizer: str) -> list[str]:
    """The same texts often come again, as in commands and digits: each is normalised once."""
    known = {text: normalize(text, normalizer) for text in set(texts)}
    return [known[text] for text in texts]


def _merged(reference: UtteranceText, hypothesis: UtteranceText, *, shifted: bool) -> UtteranceText:
    """Audio from whichever file knows it, the speaker too; confidence is the hypothesis's.

    Args:
        reference: Of the utterance.
        hypothesis: Likewise.
        shifted: The hypothesis's times count from the start of the utterance.
    """
    source = reference if reference.audio else hypothesis
    times = hypothesis.word_times
    if shifted:
        times = tuple((source.start + start, source.start + end) for start, end in times)
    return replace(
        source,
        text=reference.text,
        speaker=reference.speaker or hypothesis.speaker,
        language=reference.language or hypothesis.language,
        duration=source.duration or hypothesis.duration or reference.duration,
        confidence=hypothesis.confidence,
        word_confidences=hypothesis.confidences_between_spaces(),
        word_times=times,
    )


def _nothing_in_common(hyp: TextSet, ref: TextSet) -> ManifestError:
    return ManifestError(
        f"{hyp.path}: no id in common with {ref.path} (for example {next(iter(hyp.by_id))!r} and "
        f"{next(iter(ref.by_id))!r}); expected the same ids. Score the transcripts of these "
        "references."
    )
