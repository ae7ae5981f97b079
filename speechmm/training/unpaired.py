"""Plans unpaired texts beside the speech of training batches, before anything is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.cut_table import CutTable, spread
from speechmm.data.manifest import cut_text
from speechmm.data.plan import BatchPlan, PlannedText
from speechmm.data.sampling import SamplerOfProcess, group_by_length
from speechmm.data.skips import SkipReport
from speechmm.data.texts import read_texts
from speechmm.data.usable import MAX_UTTERANCE_SECONDS
from speechmm.errors import ConfigError, ManifestError
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.tasks import TasksConfig

RATE_CUTS = 1000  # utterances that the rate of speech is taken from


def check_texts(paths: Sequence[str], tasks: TasksConfig) -> None:
    """Refuses texts that nobody reads, and a task that lacks them.

    Args:
        paths: ``data.text``.
        tasks: Of the training.

    Raises:
        ConfigError: The first of both.
    """
    if tasks.unpaired and not paths:
        raise ConfigError(
            f"model.tasks.text: weight is {tasks.text.weight} and data.text names no file; "
            "expected texts to train on. Set data.text, or switch the task off."
        )
    if paths and not tasks.unpaired:
        raise ConfigError(
            f"data.text: {len(paths)} files, and no active task reads them; expected "
            "model.tasks.text.weight to be positive. Set it, or leave data.text out."
        )


@dataclasses.dataclass(frozen=True)
class SizedText:
    """A text with what its length in time depends on."""

    text: str
    units: int
    """Aligned tokens, silences included."""
    least: int
    """Encoder frames that CTC needs to write it."""


class TextPool:
    """Texts in groups of like length; all are drawn before any is drawn again."""

    def __init__(
        self,
        texts: Sequence[SizedText],
        rates: Sequence[float],
        *,
        seconds: float,
        frame_shift: float,
        subsampling: int,
        seed: int = 0,
    ):
        """Prepares the drawing.

        Args:
            texts: At least one.
            rates: Feature frames per unit, of utterances of which one is chosen for each text.
            seconds: Of a group, padding included, at the usual rate; a longer text comes alone.
            frame_shift: Seconds per feature frame.
            subsampling: Feature frames per encoder frame.
            seed: Of all choices.
        """
        self.texts = texts
        self.rates = rates
        self.subsampling = subsampling
        self.seed = seed
        self._most = max(1, int(seconds / frame_shift / median(rates)))
        self._pass, self._groups = -1, self._grouped(0)
        self._count = len(self._groups)  # the same in every pass

    def _grouped(self, number: int) -> list[list[int]]:
        source = Random(f"texts {self.seed} {number}")
        groups = group_by_length([one.units for one in self.texts], self._most, source)
        source.shuffle(groups)
        return groups

    def draw(self, place: int) -> tuple[PlannedText, ...]:
        """The texts of one batch, which depend on the seed and the place only.

        Args:
            place: Of the batch among those of all processes since training began.
        """
        number, group = divmod(place, self._count)
        if number != self._pass:
            self._pass, self._groups = number, self._grouped(number)
        source = Random(f"rates {self.seed} {place}")
        return tuple(self._planned(self.texts[index], source) for index in self._groups[group])

    def _planned(self, text: SizedText, source: Random) -> PlannedText:
        frames = round(text.units * source.choice(self.rates))
        return PlannedText(text.text, max(frames, text.least * self.subsampling))


class WithTexts(SamplerOfProcess):
    """The plans of another sampler, each with texts beside it."""

    def __init__(self, sampler: Any, pool: TextPool, **place: int):
        """Draws from this pool; ``place`` as in :class:`SamplerOfProcess`."""
        super().__init__(sampler, **place)
        self.pool = pool

    def __iter__(self) -> Iterator[BatchPlan]:
        first = self._epoch * self.batches
        for index, wanted in enumerate(self.sampler):
            plan = wanted if isinstance(wanted, BatchPlan) else BatchPlan.of(wanted)
            place = (first + index) * self.world_size + self.rank
            yield dataclasses.replace(plan, unpaired=self.pool.draw(place))


def read_unpaired(
    paths: Iterable[Path], tokenizer: Tokenizer, *, longest: int, skipped: SkipReport
) -> list[SizedText]:
    """The texts of files that can be trained on.

    Args:
        paths: Cuts manifests, or text files with one sentence a line.
        tokenizer: Of the model.
        longest: Units of the longest text to take.
        skipped: Where the others are noted.

    Raises:
        ManifestError: A file is missing or has no text, or none can be used.
    """
    found: list[SizedText] = []
    for path in paths:
        for number, text in enumerate(read_texts(path, skipped), start=1):
            sized, reason = _sized(text, tokenizer, longest)
            if reason:
                skipped.add(f"{path}, text {number}", reason)
            elif sized is not None:
                found.append(sized)
    if not found:
        raise ManifestError(
            "data.text: no text that can be used; expected at least one sentence of characters that the "
            "tokenizer knows. Check the files and the tokenizer."
        )
    return found


def _sized(text: str, tokenizer: Tokenizer, longest: int) -> tuple[SizedText | None, str]:
    """A text with its lengths, or why it cannot be used; neither where nothing is left of it."""
    found = tokenizer.examine(text)
    if not found.normal:
        return None, ""
    if found.is_unknown:
        return None, f"the tokenizer knows nothing of its text {text[:60]!r}"
    if found.aligned > longest:
        return (
            None,
            f"its {found.aligned} units are too many; expected at most {longest}. Segment it",
        )
    return SizedText(text, found.aligned, found.ctc_frames), ""


def speech_rates(cuts: CutTable, tokenizer: Tokenizer, features: LogMelConfig) -> list[float]:
    """Feature frames per aligned unit, silences included, of some utterances."""
    return [_rate(cut, tokenizer, features) for cut in spread(cuts, RATE_CUTS)]


def _rate(cut: MonoCut, tokenizer: Tokenizer, features: LogMelConfig) -> float:
    frames = features.num_frames(round(cut.duration * features.sample_rate))
    return frames / len(tokenizer.encode_aligned(cut_text(cut)).ids)


def make_pool(
    paths: Sequence[Path],
    cuts: CutTable,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    *,
    seconds: float,
    subsampling: int,
    seed: int,
    skipped: SkipReport,
) -> TextPool:
    """Texts of files, lasting as long as the speech of a corpus would make them.

    Args:
        paths: Cuts manifests, or text files with one sentence a line.
        cuts: Whose rates of speech the texts get.
        tokenizer: Of the model.
        features: How long a frame is.
        seconds: Of text in a batch, padding included.
        subsampling: Feature frames per encoder frame.
        seed: Of all choices.
        skipped: Where texts that cannot be used are noted.

    Raises:
        ManifestError: See :func:`read_unpaired`.
    """
    rates = speech_rates(cuts, tokenizer, features)
    longest = int(MAX_UTTERANCE_SECONDS / features.frame_shift / median(rates))
    texts = read_unpaired(paths, tokenizer, longest=longest, skipped=skipped)
    return TextPool(
        texts,
        rates,
        seconds=seconds,
        frame_shift=features.frame_shift,
        subsampling=subsampling,
        seed=seed,
    )
