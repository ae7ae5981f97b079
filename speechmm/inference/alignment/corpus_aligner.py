"""Aligns texts with an aligner that has learned from recordings and texts alone, without a recogniser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alignment, Segment
from speechmm.alignments.word_pieces import cut_unspaced
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.skips import SkipReport, named_failure
from speechmm.errors import AlignmentError, CheckpointError, ConfigError
from speechmm.files.atomic import write_folder_aside
from speechmm.files.checksum import file_sha256
from speechmm.files.json_text import fits, read_json
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.soft_edges import EDGE_SCALE, RANGE_SCALE, find_edges
from speechmm.inference.alignment.state_graph import (
    STATES_A_TOKEN,
    StateGraph,
    state_columns,
)
from speechmm.inference.alignment.token_path import (
    TokenPath,
    silence_mask,
    token_segments,
    word_segments,
)
from speechmm.inference.alignment.viterbi import Floats, Ints
from speechmm.inference.engine.sources import Source
from speechmm.models.bundle import CONFIG_FILE, WEIGHTS_FILE, check_sha256
from speechmm.models.local_network import LocalNetwork
from speechmm.models.utterance_mean import frame_levels, utterance_mean
from speechmm.text.align_units import AlignUnits
from speechmm.text.tokenizer import AlignedTokens

FORMAT = "speechmm-corpus-aligner/1"
LONGEST_SECONDS = 60.0
"""Longer recordings are refused: an aligner that hears no words cannot find its place in them."""
_DYNAMIC_RANGE = 18.0
"""Nats below the loudest band of an utterance at which log-mel is cut, so that digital silence is quiet
and no more."""
_SPREAD = 3.0
"""About the standard deviation of log-mel, nats."""


@dataclass(frozen=True)
class PlacedText:
    """A text in an utterance."""

    aligned: AlignedTokens
    labels: list[str]
    graph: StateGraph


@dataclass(frozen=True)
class CorpusAligner:
    """Networks that hear which unit a frame belongs to, and the units they know."""

    units: AlignUnits
    features: LogMelConfig
    networks: tuple[LocalNetwork, ...]
    """Their scores are averaged."""

    @torch.inference_mode()
    def log_probs(self, features: Float[Tensor, "frames n_mels"]) -> tuple[Floats, Floats]:
        """Of the states in each frame, and the same with their priors divided out.

        Returns:
            Two of (frames, columns), as :func:`state_columns` counts them.
        """
        lengths = torch.tensor([len(features)])
        both = [(one(features[None], lengths)[0], one.log_prior) for one in self.networks]
        posteriors = torch.stack([log_probs for log_probs, _ in both]).mean(dim=0)
        scores = torch.stack([log_probs - prior for log_probs, prior in both]).mean(dim=0)
        return posteriors.numpy(), scores.numpy()

    def align_sources(
        self, sources: Iterable[Source], *, skipped: SkipReport | None = None
    ) -> Iterator[Alignment]:
        """Alignments in the order of the sources.

        Args:
            sources: Utterances with their texts.
            skipped: Where one that fails is noted; without it, the first failure is raised.
        """
        skipped = SkipReport(strict=True) if skipped is None else skipped
        for source in sources:
            try:
                found = self.align(source)
            except Exception as error:
                skipped.add(source.name, named_failure(source.name, error))
                continue
            yield found

    def align(self, source: Source) -> Alignment:
        """When the words and units of one utterance were said.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: It has no text, more text than frames, or is too long.
        """
        features, text = read_features(source, self.features), place_text(self.units, source)
        posteriors, scores = self.log_probs(features)
        states = text.graph.best_path(scores)
        path = self._token_path(text, states, posteriors)
        narrow, wide = (
            text.graph.occupancy(scale * scores, tokens=len(text.labels))
            for scale in (EDGE_SCALE, RANGE_SCALE)
        )
        left_out = silence_mask(text.aligned) & (path.first == path.last)
        path = replace(path, edges=find_edges(narrow, wide, left_out=left_out))
        duration = source.duration(self.features.sample_rate)
        clock = FrameGrid.of(self.features).clock(len(features), duration)
        tokens = token_segments(path, text.aligned, text.labels, clock)
        unknown = self.units.unknown(source.transcript())
        spoken = np.flatnonzero(~silence_mask(text.aligned))
        return Alignment(
            id=source.id,
            audio=source.audio,
            start=source.start,
            duration=duration,
            units={
                "word": cut_unspaced(word_segments(path, text.aligned, clock)),
                self.units.kind: tokens,
            },
            confidence=path.confidence(spoken),
            flags=("unknown_characters: " + " ".join(unknown),) if unknown else (),
        )

    def _token_path(self, text: PlacedText, states: Ints, posteriors: Floats) -> TokenPath:
        """The frames of each token of a path of states, and what the networks say of them."""
        owners = text.graph.tokens[states]
        tokens = np.arange(len(text.labels))
        first = np.searchsorted(owners, tokens)
        last = np.searchsorted(owners, tokens, side="right")
        # Probability of the unit of each frame: of its three states together.
        column = text.graph.columns[states]
        unit = (column - 1) // STATES_A_TOKEN
        own = np.exp(posteriors[np.arange(len(states)), column])
        three = 1 + STATES_A_TOKEN * unit[:, None] + np.arange(STATES_A_TOKEN)
        speech = column > 0
        own[speech] = np.exp(np.take_along_axis(posteriors, np.maximum(three, 0), 1)).sum(1)[speech]
        summed = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(own, 1e-9)))])
        return TokenPath(first, last, (summed[last] - summed[first]).astype(np.float32))

    def save(self, folder: Path) -> None:
        """Writes a folder that :func:`load_corpus_aligner` reads, whole or not at all.

        Raises:
            ConfigError: The folder holds something else.
        """
        from safetensors.torch import save_file

        weights = {
            f"{number}.{name}": value.contiguous()
            for number, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        with write_folder_aside(folder, mark=CONFIG_FILE) as aside:
            save_file(weights, aside / WEIGHTS_FILE)
            config = {
                "format": FORMAT,
                "language": self.units.language,
                "units": list(self.units.units),
                "spelled": self.units.spelled,
                "features": asdict(self.features),
                "width": self.networks[0].out.in_features,
                "networks": len(self.networks),
                "weights_sha256": file_sha256(aside / WEIGHTS_FILE),
            }
            text = json.dumps(config, ensure_ascii=False, indent=1) + "\n"
            (aside / CONFIG_FILE).write_text(text, encoding="utf-8")


def is_corpus_aligner(folder: Path) -> bool:
    """Whether a folder says that it is one."""
    try:
        return read_config(folder).get("format") == FORMAT
    except CheckpointError:
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """The plain values of its config.json.

    Raises:
        CheckpointError: There is none, or it is no JSON object.
    """
    return read_json(
        folder / CONFIG_FILE,
        expected='the folder that "speechmm align --learn --save" writes',
        advice="Learn it again.",
        error=CheckpointError,
    )


_SHAPE = {
    "language": (str, None),
    "units": [str],
    "spelled": bool,
    "features": dict,
    "width": int,
    "networks": int,
    "weights_sha256": str,
}


def load_corpus_aligner(folder: Path) -> CorpusAligner:
    """Reads a folder that ``CorpusAligner.save`` wrote.

    Raises:
        CheckpointError: It is missing, damaged or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    problem = f'{folder}: not a usable aligner; expected what "speechmm align --save" wrote.'
    if config.get("format") != FORMAT or not fits(config, _SHAPE) or config["networks"] < 1:
        raise CheckpointError(f"{problem} Learn it again.")
    try:
        units = AlignUnits(tuple(config["units"]), config["language"], config["spelled"])
        features = LogMelConfig(**config["features"])
        check_sha256(folder / WEIGHTS_FILE, config, "aligner")
        weights = load_file(folder / WEIGHTS_FILE)
        networks = []
        for number in range(config["networks"]):
            network = LocalNetwork(
                features.n_mels, state_columns(len(units.units)), width=config["width"]
            )
            prefix = f"{number}."
            own = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
            network.load_state_dict(own)
            networks.append(network.eval())
    except (OSError, RuntimeError, TypeError, ConfigError, SafetensorError) as error:
        raise CheckpointError(f"{problem} It says: {str(error).splitlines()[0]}") from error
    return CorpusAligner(units, features, tuple(networks))


def read_features(source: Source, config: LogMelConfig) -> Float[Tensor, "frames n_mels"]:
    """Log-mel of an utterance around the mean of its bands, in about standard deviations.

    Raises:
        AudioError: It cannot be read.
        AlignmentError: It is too long.
    """
    seconds = source.duration(config.sample_rate)
    if seconds > LONGEST_SECONDS:
        raise AlignmentError(
            f"{source.name}: it lasts {seconds:.0f} s; expected at most {LONGEST_SECONDS:.0f} s without a "
            "recogniser. Cut it in its pauses, or give the bundle of a recogniser with --model."
        )
    log_mel = compute_log_mel(source.load(config.sample_rate), config)
    log_mel = log_mel.clamp(min=float(log_mel.max()) - _DYNAMIC_RANGE)
    batch, lengths = log_mel[None], torch.tensor([len(log_mel)])
    mean = utterance_mean(batch, frame_levels(batch), lengths, 0.0)
    return (batch - mean)[0] / _SPREAD


def place_text(units: AlignUnits, source: Source) -> PlacedText:
    """The text of an utterance as units and as states.

    Raises:
        AlignmentError: There is no text, or no word of it is left.
    """
    aligned, labels = units.encode(source.transcript())
    if len(labels) == 1:
        raise AlignmentError(
            f"{source.name}: no word of its text is left after the normalizer; expected at least one. "
            "Correct the text."
        )
    return PlacedText(aligned, labels, StateGraph.of(aligned.ids, silence_mask(aligned).tolist()))


def outliers(alignments: Sequence[Alignment], deviations: float = 4.0) -> set[str]:
    """The ids of utterances that fit their text far worse than the others do.

    Args:
        alignments: Of a corpus.
        deviations: How many times the median deviation below the median log confidence counts as far.
    """
    scores = np.log([max(1e-9, one.confidence or 0.0) for one in alignments])
    middle = np.median(scores)
    spread = 1.4826 * float(np.median(np.abs(scores - middle)))
    far = scores < middle - deviations * max(spread, 0.05)
    return {one.id for one, is_far in zip(alignments, far, strict=True) if is_far}


def edge_range(segments: Iterable[Segment]) -> float | None:
    """The median length of the ranges of the edges, seconds; None where nothing says."""
    pairs = [pair for one in segments for pair in (one.start_range, one.end_range) if pair]
    return float(np.median([last - first for first, last in pairs])) if pairs else None
