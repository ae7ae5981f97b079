"""Reads what a model that speaks is to say: log-mel and pitch of whole recordings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from lhotse import MonoCut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.audio.pitch import track_pitch
from speechmm.data.batch import SpokenTargets
from speechmm.data.cut_rows import read_rows, says_synthetic
from speechmm.data.manifest import is_synthetic
from speechmm.data.plan import PlannedUtterance
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import load_recorded, recorded_span

Keep = Callable[[Hashable, Callable[[], Tensor]], Tensor]
"""Reads a tensor, or has it from the last time it was read under that key."""


@dataclass(frozen=True)
class TargetReader:
    """Reads the targets of a batch."""

    mel: LogMelConfig
    """What is to be spoken."""
    speakers: tuple[str, ...]
    """Of the training."""
    share: float = 1.0
    """Of the rows of a batch that are targets, evenly spread, one at least; reading less costs less."""

    def __call__(
        self,
        rows: Sequence[Sequence[PlannedUtterance]],
        keep: Keep,
        round_up: Callable[[int], int] | None = None,
    ) -> SpokenTargets | None:
        """The targets of rows that are one utterance as somebody said it; None where there are none.

        Recordings are taken at the speed they were made with, whatever speed the cuts ask for.

        Args:
            rows: Of a batch.
            keep: Where what was read is kept.
            round_up: From the length of the longest target to that of all.
        """
        whole = [
            row
            for row, parts in enumerate(rows)
            if len(parts) == 1 and not parts[0].pieces and not is_synthetic(parts[0].cut)
        ]
        if not whole:
            return None
        count = max(1, round(self.share * len(whole)))
        whole = [whole[place * len(whole) // count] for place in range(count)]
        cuts = [rows[row][0].cut for row in whole]
        read = [keep(("spoken", recorded_span(cut)), partial(self.read, cut)) for cut in cuts]
        padded = pad_sequence(read, batch_first=True)
        if round_up is not None:
            more = round_up(padded.shape[1]) - padded.shape[1]
            padded = torch.nn.functional.pad(padded, (0, 0, 0, more))
        places = {name: place for place, name in enumerate(self.speakers)}
        return SpokenTargets(
            rows=torch.tensor(whole),
            mel=padded[:, :, :-2],
            lengths=torch.tensor([len(one) for one in read]),
            log_pitch=padded[:, :, -2],
            pitch_weight=padded[:, :, -1],
            speakers=torch.tensor([places.get(speaker_of(cut), -1) for cut in cuts]),
        )

    def read(self, cut: MonoCut) -> Float[Tensor, "frames values"]:
        """Log-mel of a recording, then its log pitch and the weights of that.

        Raises:
            AudioError: The file cannot be read.
        """
        waveform = load_recorded(cut, self.mel.sample_rate)
        pitch = track_pitch(waveform, self.mel.sample_rate, self.mel.hop_length)
        return torch.cat([compute_log_mel(waveform, self.mel), torch.stack(pitch, dim=1)], dim=1)


def speaker_of(cut: MonoCut) -> str:
    """Who speaks; "" where the corpus does not say."""
    return (cut.supervisions[0].speaker or "") if cut.supervisions else ""


def read_speakers(manifests: Iterable[str]) -> tuple[str, ...]:
    """Everybody who speaks in some manifests, in alphabetical order, but synthetic voices."""
    found = set()
    for path in manifests:
        for row in read_rows(Path(path), SkipReport()):
            if says_synthetic(row.data.get("custom")):
                continue
            supervisions = row.data.get("supervisions") or [{}]
            found.add(str(supervisions[0].get("speaker") or ""))
    return tuple(sorted(found)) or ("",)
