"""Recombines words of training utterances of one speaker to new utterances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.data.batch import Batch, valid_rows
from speechmm.errors import ConfigError
from speechmm.text.tokenizer import Tokenizer

MAX_EDGE_VARIANCE = 1.0
"""An edge may be cut if the variances of its two sides, summed over frames, are below this. On AN4, after
20 epochs, 80 % of the edges are, and 4 % of these lie 30 ms or more within a word, not 7 %."""

MAX_PAUSE_FRAMES = 15
"""Frames kept of the silence before a first or after a last word that comes to stand inside."""


@dataclass(frozen=True, kw_only=True)
class RecombinationConfig:
    """Utterances put together from words of other utterances of the same speaker.

    Where the words were said is what the task ``align`` found when it last saw the utterance. Source
    of the idea: Lam et al. 2021, "On-the-Fly Aligned Data Augmentation for Sequence-to-Sequence ASR",
    with the model's own alignments, whole runs of words, and one speaker at a time.
    """

    share: float = 0.0
    """Share of training utterances that are replaced by recombined ones about as long."""
    after_epochs: int = 4
    """Epochs before the first, until the alignments can be trusted: some hundred steps at least, which a
    corpus of minutes has after twelve epochs only. Begun too early, the training may never learn."""
    run_words: int = 2
    """Most neighbouring words taken together; as many as are drawn from 1 to this. Words between which
    the edge is unsure or loud count as one."""
    keep_gb: float = 0.5
    """Features kept for this by every process; utterances beyond it give no words."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or min(self.after_epochs, self.run_words - 1) < 0:
            raise ConfigError(
                f"model.augmentation.recombination: share {self.share}, after_epochs {self.after_epochs}, "
                f"run_words {self.run_words}; expected 0 to 1, 0 or more, 1 or more. Correct the config."
            )


@dataclass(frozen=True)
class WordSource:
    """One utterance whose words can be taken."""

    features: Float[Tensor, "frames n_mels"]
    words: list[str]
    """What can be taken: a word, or several where the edge between them had better not be cut."""
    edges: list[int]
    """Where to cut, in frames: edge i and i + 1 enclose ``words[i]`` and half of the pauses around."""
    first: int
    """Frame at which the first word begins."""
    end: int
    """Frame at which the last word is over."""


_PLAIN_FIELDS = [one.name for one in fields(WordSource) if one.name != "features"]

Voice = tuple[str, float]
"""A speaker at a speed: a recording played faster has another pitch."""


def word_edges(
    occupancy: Float[Tensor, "frames tokens"], word_indices: Sequence[int]
) -> tuple[list[float], list[float], list[float]]:
    """Where each word begins and ends, in frames, and the variance of each edge between two.

    A token ends after as many frames as it and the tokens before it hold in sum; the variance of
    that number, as if frames were independent, is summed over the end of one word and the
    beginning of the next.

    Args:
        occupancy: Share of each frame in each token of ``Tokenizer.encode_aligned``.
        word_indices: Word of each token, -1 for silence; words without a token have no edges.
    """
    reached = occupancy.cumsum(dim=1)  # (frames, tokens): share in the token or one before it
    ends = reached.sum(dim=0).tolist()
    variance = (reached * (1 - reached)).sum(dim=0).tolist()
    words = words_with_tokens(word_indices)
    first = [word_indices.index(word) for word in words]
    last = [len(word_indices) - 1 - word_indices[::-1].index(word) for word in words]
    begin = [ends[token - 1] if token else 0.0 for token in first]
    between = [variance[last[i]] + variance[first[i + 1] - 1] for i in range(len(words) - 1)]
    return begin, [ends[token] for token in last], between


def words_with_tokens(word_indices: Sequence[int]) -> list[int]:
    """The words that have tokens, in order: "-" alone has none."""
    return [word for word in dict.fromkeys(word_indices) if word >= 0]


class WordBank:
    """The training utterances this process has seen, cut into words, by speaker and speed."""

    def __init__(self, tokenizer: Tokenizer, config: RecombinationConfig):
        self.tokenizer = tokenizer
        self.config = config
        self._sources: dict[Voice, dict[str, WordSource]] = defaultdict(dict)
        self._left = round(config.keep_gb * 1e9)

    def add(
        self,
        batch: Batch,
        occupancy: Float[Tensor, "batch aligned_frames tokens"],
        lengths: Int[Tensor, " batch"],
    ) -> None:
        """Stores where the words of these utterances are, in place of what was known before.

        Args:
            batch: Utterances with features as they were recorded; recombined ones are passed over.
            occupancy: Soft alignment of each to its ``align_tokens``.
            lengths: Frames of each in that alignment, more or fewer where the tempo was changed.
        """
        occupancy = occupancy.cpu()  # all at once: a GPU is waited for once a step
        for row, name in enumerate(batch.ids):
            if batch.recombined[row]:
                continue
            known = self._sources[batch.speakers[row], batch.speeds[row]]
            frames = int(batch.feature_lengths[row])
            size = 4 * frames * batch.features.shape[2]
            aligned = self.tokenizer.encode_aligned(batch.texts[row])
            words = [aligned.words[i] for i in words_with_tokens(aligned.word_indices)]
            if not words:
                continue
            if name in known:
                features = known[name].features
            elif size <= self._left:
                features = batch.features[row, :frames].detach().cpu().clone()
                self._left -= size
            else:
                continue
            length = int(lengths[row])
            known[name] = self._cut(
                features,
                words,
                *word_edges(occupancy[row, :length, : len(aligned.ids)], aligned.word_indices),
                frames / max(1, length),
            )

    @staticmethod
    def _cut(  # noqa: PLR0917
        features: Float[Tensor, "frames n_mels"],
        words: Sequence[str],
        begin: Sequence[float],
        end: Sequence[float],
        variance: Sequence[float],
        scale: float,
    ) -> WordSource:
        """Cuts between two words where the edge is certain and the sound is soft."""
        level = features.mean(dim=1)
        usual = float(level.median())
        units, edges = [words[0]], [0]
        for word in range(1, len(words)):
            middle = round((end[word - 1] + begin[word]) / 2 * scale)
            soft = 0 < middle < len(level) and float(level[middle]) < usual
            if soft and middle > edges[-1] and variance[word - 1] < MAX_EDGE_VARIANCE:
                units.append(words[word])
                edges.append(middle)
            else:
                units[-1] += " " + words[word]
        edges.append(len(features))
        return WordSource(features, units, edges, round(begin[0] * scale), round(end[-1] * scale))

    def state(self) -> list[dict[str, Any]]:
        """What a checkpoint needs: everything but the features, in the order it was stored."""
        return [
            {
                "speaker": speaker,
                "speed": speed,
                "id": name,
                **{field: getattr(one, field) for field in _PLAIN_FIELDS},
            }
            for (speaker, speed), known in self._sources.items()
            for name, one in known.items()
        ]

    def load_state(
        self, state: list[dict[str, Any]], features: Mapping[str, Float[Tensor, "frames n_mels"]]
    ) -> None:
        """Restores what was stored; utterances without features are dropped.

        Args:
            state: Of :meth:`state`.
            features: Of the utterances, by id.
        """
        self._sources.clear()
        self._left = round(self.config.keep_gb * 1e9)
        for one in state:
            if one["id"] in features:
                rows = features[one["id"]]
                plain = {field: one[field] for field in _PLAIN_FIELDS}
                self._sources[one["speaker"], one["speed"]][one["id"]] = WordSource(
                    features=rows, **plain
                )
                self._left -= 4 * rows.numel()

    def recombine(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """The batch with a share of its utterances replaced.

        Args:
            batch: Utterances as they were recorded.
            generator: Of all random choices; torch's own when not given.
        """
        chosen = torch.rand(len(batch), generator=generator) < self.config.share
        made: dict[int, tuple[Tensor, list[str]]] = {}
        for row in chosen.nonzero().flatten().tolist():
            pool = list(self._sources[batch.speakers[row], batch.speeds[row]].values())
            if len(pool) > 1:
                made[row] = self._draw(pool, int(batch.feature_lengths[row]), generator)
        return replace_rows(batch, made, self.tokenizer) if made else batch

    def _draw(
        self, pool: list[WordSource], frames: int, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "frames n_mels"], list[str]]:
        """Runs of words, as many as come nearest to the wanted length."""
        # every word of the pool is as likely as any other to begin a run
        places = torch.tensor([len(one.words) for one in pool]).cumsum(0)
        runs: list[tuple[WordSource, int, int]] = []
        wanted = frames
        while not runs or wanted > 0:
            place = int(torch.randint(int(places[-1]), (), generator=generator))
            number = int(torch.searchsorted(places, place, right=True))
            one = pool[number]
            start = place - int(places[number]) + len(one.words)
            length = int(torch.randint(1, self.config.run_words + 1, (), generator=generator))
            end = min(start + length, len(one.words))
            size = one.edges[end] - one.edges[start]
            if runs and size > 2 * wanted:  # the length is nearer to the wanted one without it
                break
            runs.append((one, start, end))
            wanted -= size
        # cut the runs out; where the start or end of a recording comes to stand inside, shorten its pause
        parts, words = [], []
        for index, (one, start, end) in enumerate(runs):
            a, b = one.edges[start], one.edges[end]
            if start == 0 and index:
                a = max(a, one.first - MAX_PAUSE_FRAMES)
            if end == len(one.words) and index < len(runs) - 1:
                b = min(b, one.end + MAX_PAUSE_FRAMES)
            parts.append(one.features[a:b])
            words += one.words[start:end]
        return torch.cat(parts), words


def replace_rows(
    batch: Batch,
    made: dict[int, tuple[Float[Tensor, "frames n_mels"], list[str]]],
    tokenizer: Tokenizer,
) -> Batch:
    """The batch with other features and words in some rows; everything else follows from them."""
    texts = [" ".join(made[row][1]) if row in made else t for row, t in enumerate(batch.texts)]
    features = [
        made[row][0] if row in made else batch.features[row, :length]
        for row, length in enumerate(batch.feature_lengths.tolist())
    ]
    tokens = valid_rows(batch.tokens, batch.token_lengths)
    align_tokens = valid_rows(batch.align_tokens, batch.align_lengths)
    for row in made:
        tokens[row] = tokenizer.encode(texts[row])
        align_tokens[row] = tokenizer.encode_aligned(texts[row]).ids
    return batch.with_rows(
        features,
        tokens,
        align_tokens,
        recombined=[row in made for row in range(len(batch))],
        texts=texts,
        references=[None if row in made else one for row, one in enumerate(batch.references)],
    )
