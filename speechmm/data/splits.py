"""Divides a corpus into train, dev and test so that no speaker is in two of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance
from speechmm.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    from lhotse import MonoCut

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "validation", "val", "cv"), "dev"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
"""What a corpus may call a split, and what we do."""


def hold_out_last(
    utterances: list[Utterance], count: int, share: float
) -> dict[str, list[Utterance]]:
    """The last ``count`` ids are test, as many before are dev; each at most ``share`` of all."""
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    size = min(count, max(1, int(len(ordered) * share)))
    first_test = max(0, len(ordered) - size)
    first_dev = max(0, first_test - size)
    return {
        "train": ordered[:first_dev],
        "dev": ordered[first_dev:first_test],
        "test": ordered[first_test:],
    }


def draw_missing(
    splits: dict[str, list[MonoCut]], report: SkipReport, *, dev: float, test: float, seed: int
) -> dict[str, list[MonoCut]]:
    """Take dev and test out of train where the corpus has none, by speaker where known.

    Args:
        splits: What the corpus has; "train" must be there.
        report: Is told what was drawn, and how.
        dev: Share of train's seconds to take when there is no dev, in [0, 1); 0 takes none.
        test: Likewise.
        seed: Another seed draws others.
    """
    shares = {
        name: share if name not in splits else 0.0 for name, share in (("dev", dev), ("test", test))
    }
    wanted = [name for name, share in shares.items() if share > 0]
    drawn = split_by_speaker(splits["train"], dev=shares["dev"], test=shares["test"], seed=seed)
    if wanted:
        known = _speakers(splits["train"], at_least=1 + len(wanted)) is not None
        how = "speaker" if known else "recording, as too few speakers are known"
        unknown = sum(not _speaker(cut) for cut in splits["train"])
        if known and unknown:
            how += f", {unknown} utterances of unknown speakers by recording"
        report.remark(f"{' and '.join(wanted)}: the corpus has none, drawn from train by {how}")
    return {**splits, "train": drawn["train"], **{name: drawn[name] for name in wanted}}


def require_utterances(splits: dict[str, list[MonoCut]], report: SkipReport, where: str) -> None:
    """Refuse a corpus in which nothing, or nothing of one split, can be used.

    Raises:
        ManifestError: Says which split is empty, and the first reason why something was skipped.
    """
    empty = [split for split, cuts in splits.items() if not cuts]
    if splits and not empty:
        return
    skipped = ""
    if report.items:
        item, reason = report.items[0]
        skipped = f"; {len(report)} were skipped, the first is {item}: {reason}"
    if not any(splits.values()):
        raise ManifestError(
            f"{where}: no usable utterance{skipped}; expected audio with transcripts. "
            "Check the folder and the format of its transcripts."
        )
    total = sum(map(len, splits.values()))
    raise ManifestError(
        f"{where}: no usable utterance for {' and '.join(empty)} ({total} in the others{skipped}); "
        "expected one or more in every split. Add utterances, or change the split."
    )


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
    """Cuts by speaker, or by recording where the speaker is not known, or fewer than ``at_least`` are."""
    by_speaker = _speakers(cuts, at_least=at_least)
    if by_speaker is not None:
        return list(by_speaker.values()) + _recordings([one for one in cuts if not _speaker(one)])
    return _recordings(cuts)


def _recordings(cuts: list[MonoCut]) -> list[list[MonoCut]]:
    from speechmm.data.waveforms import audio_path

    by_audio: dict[str, list[MonoCut]] = {}
    for cut in cuts:
        by_audio.setdefault(str(audio_path(cut)), []).append(cut)
    return list(by_audio.values())


def _speakers(cuts: list[MonoCut], *, at_least: int) -> dict[str, list[MonoCut]] | None:
    """Cuts of each known speaker; None where there are fewer than ``at_least``."""
    found: dict[str, list[MonoCut]] = {}
    for cut in cuts:
        if speaker := _speaker(cut):
            found.setdefault(speaker, []).append(cut)
    return found if len(found) >= at_least else None


def _speaker(cut: MonoCut) -> str:
    return next((s.speaker for s in cut.supervisions if s.speaker), "")


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
