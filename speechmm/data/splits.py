"""Dividing a corpus into train, dev and test so that no voice is in two of them."""

import random
from collections.abc import Iterable

from lhotse import MonoCut

from speechmm.data.waveforms import audio_path
from speechmm.errors import ConfigError


def split_by_speaker(
    cuts: Iterable[MonoCut], *, dev: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, list[MonoCut]]:
    """Divide cuts into "train", "dev" and "test" so that no speaker is in two of them.

    Where there are fewer speakers than splits, no recording is in two of them instead. The
    result depends on the ids and the seed, not on the order of the cuts.

    Args:
        cuts: all utterances of the corpus.
        dev: wanted share of the seconds, in [0, 1); 0 leaves the split empty.
        test: likewise.
        seed: which speakers go where.

    Raises:
        ConfigError: the shares are not in [0, 1) or leave nothing for training.
    """
    if not (0 <= dev < 1 and 0 <= test < 1 and dev + test < 1):
        raise ConfigError(
            f"dev {dev:g} and test {test:g}: expected shares in [0, 1) with a sum below 1. "
            "Give smaller shares."
        )
    cuts = sorted(cuts, key=lambda cut: cut.id)
    total = _seconds(cuts)
    groups = _speaker_groups(cuts, at_least=1 + (dev > 0) + (test > 0))
    random.Random(seed).shuffle(groups)
    splits = {
        "test": _take_share(groups, test * total, leave=1 + (dev > 0)),
        "dev": _take_share(groups, dev * total, leave=1),
    }
    splits["train"] = [cut for group in groups for cut in group]
    names = ("train", "dev", "test")
    return {name: sorted(splits[name], key=lambda cut: cut.id) for name in names}


def _seconds(cuts: Iterable[MonoCut]) -> float:
    return float(sum(cut.duration for cut in cuts))


def _speaker_groups(cuts: list[MonoCut], *, at_least: int) -> list[list[MonoCut]]:
    """Cuts by speaker, or by recording where speakers are not known or fewer than ``at_least``."""
    by_speaker: dict[str, list[MonoCut]] = {}
    by_audio: dict[str, list[MonoCut]] = {}
    for cut in cuts:
        speaker = next((s.speaker for s in cut.supervisions if s.speaker), "")
        by_speaker.setdefault(speaker, []).append(cut)
        by_audio.setdefault(str(audio_path(cut)), []).append(cut)
    known = "" not in by_speaker and len(by_speaker) >= at_least
    return list((by_speaker if known else by_audio).values())


def _take_share(groups: list[list[MonoCut]], seconds: float, *, leave: int) -> list[MonoCut]:
    """Move groups that come to about ``seconds`` out of ``groups``: one or more, if wanted."""
    if seconds <= 0 or len(groups) <= leave:
        return []
    taken: list[list[MonoCut]] = []
    kept: list[list[MonoCut]] = []
    total = 0.0
    for group in groups:
        closer = abs(total + _seconds(group) - seconds) < abs(total - seconds)
        if closer and len(taken) < len(groups) - leave:
            taken.append(group)
            total += _seconds(group)
        else:
            kept.append(group)
    if not taken:
        kept.sort(key=_seconds, reverse=True)
        taken.append(kept.pop())
    groups[:] = kept
    return [cut for group in taken for cut in group]
