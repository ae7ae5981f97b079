"""Starts a network from the weights of a bundle, by name, shape and pieces, or from Whisper's decoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.models.bundle import Bundle, load_bundle
from speechmm.models.lora import LoraConfig
from speechmm.models.pretrained.whisper_decoder import read_decoder, take_decoder
from speechmm.models.speech_text import SpeechTextModel
from speechmm.text.languages import tag_parts
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.freezing import Freezing, start_lora
from speechmm.training.optimization import decoder_names, encoder_names
from speechmm.training.starting_point import StartingPoint

_MOST_NAMED = 12
"""Pieces, or parts, that are named in a line before it says how many more there are."""
_PIECES = ("heads.ctc.", "heads.decoder.embedding.", "heads.decoder.output.")
_ALIGNED = (
    "heads.align.local_out.",
    "heads.align.context_out.",
    "heads.tts.embedding.",
    "heads.tts.text.embedding.",
    "heads.tts.text.durations.",
)
_PRIOR = ("heads.align.label_prior", "heads.align.prior_batches")
_TAGS = "heads.decoder.tags."
_SPEAKERS = "heads.tts.speakers."
_VOICE = "heads.tts."
_STATISTICS = ("cmvn_mean", "cmvn_std")


@dataclass
class TakenWeights:
    """What became of the weights."""

    path: Path
    taken: list[str] = field(default_factory=list)
    """Copied whole."""
    by_row: list[str] = field(default_factory=list)
    """Copied for the pieces that both tokenizers have, or the tags that both decoders have."""
    new: list[str] = field(default_factory=list)
    """As they were made: the bundle does not have them, or with another shape."""
    left: list[str] = field(default_factory=list)
    """Of the bundle: nothing here has their name and shape."""
    values: int = 0
    """Numbers copied."""
    shared_pieces: int = 0
    new_pieces: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What a user is told."""
        out = [
            f"init_from {self.path}: {len(self.taken)} weights taken ({self.values / 1e6:.2f} M values)"
        ]
        if self.by_row:
            named = f"; new: {_few(self.new_pieces)}" if self.new_pieces else ""
            out.append(f"  {_parts(self.by_row)}: rows of {self.shared_pieces} pieces taken{named}")
        if self.new:
            out.append(f"  made new: {_parts(self.new)}")
        if self.left:
            out.append(f"  left: {_parts(self.left)}")
        return out


def start_network(
    network: SpeechTextModel,
    data: SpeechDataModule,
    start: StartingPoint,
    freeze: tuple[Sequence[str], Sequence[int]],
    lora: LoraConfig,
) -> tuple[Freezing | None, list[str]]:
    """Takes weights of a bundle or a decoder, freezes what is to stay, adds low-rank updates.

    Args:
        network: It is changed. Its encoder is that of the starting point.
        data: Of the training.
        start: Where the training starts.
        freeze: Patterns of names, and the steps at which these thaw.
        lora: The updates.

    Returns:
        What is frozen, if anything, and what a user is told, line by line.
    """
    said: list[str] = []
    known = encoder_names(network)
    if start.decoder is not None:
        said.append(_take_decoder(network, data.text_tokenizer, start))
        known += decoder_names(network)
    if start.bundle is not None:
        taken = take_weights(
            network,
            Path(start.bundle),
            data.text_tokenizer,
            data.features,
            keep_cmvn=data.cmvn_path is not None,
        )
        said += taken.lines()
        known = taken.taken
    freezing = None
    if any(freeze):
        freezing = Freezing(network, *freeze)
        said.append(freezing.describe())
    if lora.rank:
        said.append(start_lora(network, lora, known, freezing))
    return freezing, said


def _take_decoder(network: SpeechTextModel, tokenizer: Tokenizer, start: StartingPoint) -> str:
    """Takes Whisper's decoder; returns what a user is told.

    Raises:
        CheckpointError: The folder does not hold it whole.
        ConfigError: No decoder is trained.
    """
    if "decoder" not in network.heads:
        raise ConfigError(
            f"model.pretrained_decoder is {start.decoder} and no decoder is trained; expected one. Set "
            "model.tasks.asr.ctc_weight below 1, or leave pretrained_decoder out."
        )
    assert start.folder is not None and start.decoder is not None
    source = read_decoder(Path(start.folder), start.decoder)
    found, missing = take_decoder(network.decoder, source, tokenizer.pieces, start.decoder)
    named = f"; made of their bytes: {_few(missing)}" if missing else ""
    return f"decoder of {start.folder}: {source.layers} layers, vectors of {found} pieces{named}"


def take_weights(
    network: SpeechTextModel,
    path: Path,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    *,
    keep_cmvn: bool,
) -> TakenWeights:
    """Copies what a bundle and a network have in common.

    Args:
        network: It is changed.
        path: Of the bundle.
        tokenizer: Of the network. Rows of heads and embeddings are matched by their pieces.
        features: Of the network; they must be the bundle's.
        keep_cmvn: Leave the network's feature statistics; otherwise those that the weights were trained
            with are taken.

    Raises:
        CheckpointError: The bundle is damaged.
        ConfigError: Features, or shapes of the encoder, differ.
    """
    bundle = load_bundle(path)
    if bundle.features != features:
        raise ConfigError(
            f"data.features differ from those of {path} ({bundle.features}); expected these, with which "
            "its weights were trained. Leave data.features out of the config."
        )
    found = TakenWeights(path)
    theirs = bundle.model.state_dict()
    if keep_cmvn:
        theirs = {name: one for name, one in theirs.items() if name not in _STATISTICS}
    theirs = _without_another_voice(theirs, bundle.model, network)
    pieces = _Pieces(bundle, network, tokenizer)
    for name, own in network.state_dict().items():
        given = theirs.pop(name, None)
        if given is None:
            if not (keep_cmvn and name in _STATISTICS):
                found.new.append(name)
        elif pieces.differ(name):
            pieces.take_rows(name, own, given, found)
        elif given.shape == own.shape:
            own.copy_(given)
            found.taken.append(name)
            found.values += own.numel()
        else:
            _refuse_encoder(name, own, given, path)
            found.new.append(name)
            found.left.append(name)
    found.left += theirs
    if not any(name.startswith("encoder.") for name in found.taken):
        raise ConfigError(
            f"init_from: no weight of the encoder of {path} has a name that the network has; expected the "
            "same kind of encoder. Leave model.network out of the config."
        )
    return found


class _Pieces:
    """Rows of two vocabularies that belong together."""

    def __init__(self, bundle: Bundle, network: SpeechTextModel, tokenizer: Tokenizer):
        theirs = bundle.tokenizer
        tags = [
            model.decoder.names if "decoder" in model.heads else ()
            for model in (bundle.model, network)
        ]
        self._rows = {
            _PIECES: (list(theirs.pieces), list(tokenizer.pieces)),
            (*_ALIGNED, *_PRIOR): (list(theirs.align_pieces), list(tokenizer.align_pieces)),
            (_TAGS,): (list(tags[0]), list(tags[1])),
            (_SPEAKERS,): (_speakers(bundle.model), _speakers(network)),
        }

    def differ(self, name: str) -> bool:
        """Whether a weight has rows of which some may be missing."""
        old, new = self._of(name)
        return old != new

    def take_rows(self, name: str, own: Tensor, given: Tensor, found: TakenWeights) -> None:
        """Copies the rows that both have; the label prior is learned anew."""
        if name in _PRIOR or own.shape[1:] != given.shape[1:]:
            found.new.append(name)
            found.left.append(name)
            return
        old, new = self._of(name)
        places = {piece: row for row, piece in enumerate(old)}
        pairs = [(row, places[piece]) for row, piece in enumerate(new) if piece in places]
        if name.startswith(_SPEAKERS):  # a new voice begins as the mean of those that were learned
            own.copy_(given.mean(dim=0, keepdim=True).expand_as(own))
        if name.startswith(_TAGS):  # a language that is new begins as its task does in any
            pairs += [
                (row, places[task])
                for row, tag in enumerate(new)
                if tag not in places and (task := tag_parts(tag)[0]) in places
            ]
        if not pairs:
            found.new.append(name)
            return
        mine, his = (torch.tensor(rows) for rows in zip(*pairs, strict=True))
        own[mine] = given[his].to(own.dtype)
        found.by_row.append(name)
        found.values += own[mine].numel()
        if not name.startswith((_TAGS, _SPEAKERS)):
            found.shared_pieces = max(found.shared_pieces, len(pairs))
            missing = [piece for piece in new if piece not in places]
            found.new_pieces += [one for one in missing if one not in found.new_pieces]

    def _of(self, name: str) -> tuple[Sequence[str], Sequence[str]]:
        for prefixes, rows in self._rows.items():
            if name.startswith(prefixes):
                return rows
        return (), ()


def _speakers(model: SpeechTextModel) -> list[str]:
    return [] if model.voice is None else list(model.voice.config.speakers)


def _without_another_voice(
    weights: dict[str, Tensor], model: SpeechTextModel, network: SpeechTextModel
) -> dict[str, Tensor]:
    """The weights, but for a voice that speaks other log-mel than the network's."""
    theirs, ours = model.voice, network.voice
    if theirs is None or ours is None or theirs.config.mel == ours.config.mel:
        return weights
    return {name: value for name, value in weights.items() if not name.startswith(_VOICE)}


def _refuse_encoder(name: str, own: Tensor, given: Tensor, path: Path) -> None:
    """An encoder of which a part is another's is none."""
    if name.startswith("encoder."):
        raise ConfigError(
            f"init_from: {name} has the shape {tuple(own.shape)}, in {path} {tuple(given.shape)}; expected "
            "the dimensions of the bundle's encoder. Leave model.network out of the config."
        )


def _parts(names: Iterable[str]) -> str:
    """Weights by what they belong to, with their number."""
    counts: dict[str, int] = {}
    for name in names:
        part = ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + 1
    return _few([f"{part} ({count})" for part, count in counts.items()], ", ")


def _few(words: Sequence[str], between: str = " ") -> str:
    more = len(words) - _MOST_NAMED
    shown = between.join(words[:_MOST_NAMED])
    return shown + (f" and {more} more" if more > 0 else "")
