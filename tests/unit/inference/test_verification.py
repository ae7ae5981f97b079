"""Texts that do not say what the audio says: found, named and placed."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from speechmm.cli.main import main
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.errors import AlignmentError, ConfigError
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.alignment.ctc_labels import CtcLabels
from speechmm.inference.alignment.ctc_windows import CtcWindows, window_costs
from speechmm.inference.alignment.token_path import find_paths
from speechmm.inference.alignment.transcript_edits import (
    EditPenalties,
    TranscriptEdits,
    find_edits,
)
from speechmm.inference.alignment.viterbi import ctc_states, monotonic_path
from speechmm.models.bundle import Bundle
from speechmm.text.tokenizer_training import train_tokenizer


def best(log_probs: np.ndarray, elements: list[int | None]) -> float:
    """What the best path through tokens and the filler (None) scores, by the search of alignment."""
    if not elements:
        return float(log_probs[:, 0].sum())
    free = log_probs.shape[1]
    with_free = np.concatenate([log_probs, log_probs.max(axis=1, keepdims=True)], axis=1)
    columns, skippable = ctc_states([free if one is None else one for one in elements])
    try:
        path = monotonic_path(with_free, skippable=skippable, columns=columns)
    except AlignmentError:
        return -np.inf
    return float(with_free[np.arange(len(path)), columns[path]].sum())


@pytest.mark.parametrize("seed", range(120))
def test_edits_are_the_best_of_all(seed: int) -> None:
    """By trying all; from seed 40 on neighbouring words share their few letters."""
    random = np.random.default_rng(seed)
    count = 1 + seed % 4
    apart = 2 if seed < 40 else 0
    words = [random.integers(apart * k + 1, apart * k + 3, 1 + seed % 3) for k in range(count)]
    words = [word.tolist() for word in words]
    log_probs = (random.normal(size=(random.integers(4, 25), 9)) * 2).astype(np.float32)
    labels = CtcLabels([], [], [], [])
    for index, word in enumerate(words):
        labels.ids.extend(word)
        labels.word.extend([index] * len(word))
    penalties = EditPenalties(drop=4.0, extra=3.0)

    def score(dropped: Sequence[bool], free: Sequence[bool]) -> float:
        elements: list[int | None] = []
        for gap in range(count + 1):
            elements += [None] * free[gap]
            if gap < count and not dropped[gap]:
                elements += words[gap]
        found = best(log_probs, elements)
        return found - penalties.drop * sum(dropped) - penalties.extra * sum(free)

    choices = [(False, True)] * (2 * count + 1)
    scores = {
        choice: score(choice[:count], choice[count:]) for choice in itertools.product(*choices)
    }
    found = find_edits(log_probs, labels, penalties)
    chosen = (*found.dropped.tolist(), *found.extra.tolist())
    assert scores[chosen] == pytest.approx(max(scores.values()), abs=1e-3)


def test_a_doubled_letter_heard_once_is_noticed() -> None:
    """Between two equal letters lies a blank: one "a" of two frames is one "a"."""
    labels = CtcLabels([1, 2, 2, 3], [], [], [0, 1, 2, 3])
    heard = [0, 1, 0, 0, 2, 2, 0, 0, 3, 0]
    log_probs = np.full((len(heard), 4), -9.0, np.float32)
    log_probs[np.arange(len(heard)), heard] = -0.001
    found = find_edits(log_probs, labels, EditPenalties.equal(6.0))
    assert found.dropped.sum() == 1 and found.dropped[1:3].any()
    heard = [0, 1, 0, 2, 0, 2, 0, 0, 3, 0]  # said twice
    log_probs = np.full((len(heard), 4), -9.0, np.float32)
    log_probs[np.arange(len(heard)), heard] = -0.001
    assert not find_edits(log_probs, labels, EditPenalties.equal(6.0)).dropped.any()


def test_speech_stands_in_for_the_words_beside_it() -> None:
    spans = np.zeros((6, 2), np.int64)
    spans[[2, 5]] = (3, 9)
    dropped = np.array([True, True, False, True, False])
    edits = TranscriptEdits(np.arange(5), dropped, spans)
    assert edits.replacements().tolist() == [2, 2, -1, -1, -1]


SAID = "ab cd fe ha bg"


def kinds(flags: tuple[str, ...]) -> list[str]:
    return [flag.split(":")[0] for flag in flags]


@pytest.mark.parametrize("kind", ["head", "ctc"])
def test_damaged_texts(tone_bundle: Bundle, speak: Callable, kind: str) -> None:
    speech = speak(SAID)
    aligner = Aligner(tone_bundle, kind=kind)

    def flags(text: str) -> tuple[str, ...]:
        return aligner.align(speech.waveform, text).flags

    assert flags(SAID) == ()
    (wrong,) = flags("ab cd gh ha bg")
    assert wrong.startswith("wrong_word: gh")
    start, end = map(float, wrong.split()[-2].split("-"))
    assert start == pytest.approx(speech.words[2].start, abs=0.05)
    assert end == pytest.approx(speech.words[2].end, abs=0.1)
    (unsaid,) = flags("ab cd gca fe ha bg")
    assert unsaid.startswith("not_said: gca")
    (extra,) = flags("ab cd ha bg")
    start, end = map(float, extra.removeprefix("extra_speech: ").removesuffix(" s").split("-"))
    assert start <= speech.words[2].start + 0.05 and end >= speech.words[2].end - 0.05
    assert start >= speech.words[1].end - 0.1 and end <= speech.words[3].start + 0.1
    assert kinds(flags("ab cd fe ha")) == kinds(flags("cd fe ha bg")) == ["extra_speech"]
    assert "wrong_transcript" in kinds(flags("gh eda hc dfh cb"))


def test_confidence_is_low_only_where_the_text_is_wrong(
    tone_bundle: Bundle, speak: Callable
) -> None:
    found = Aligner(tone_bundle).align(speak(SAID).waveform, "ab cd gh ha bg")
    confidence = [word.confidence or 0.0 for word in found.words]
    assert confidence[2] < 0.01
    assert min(confidence[:2] + confidence[3:]) > 0.5


def test_mismatches_of_long_audio_are_at_their_times(tone_bundle: Bundle, speak: Callable) -> None:
    words = SAID.split() * 12
    speech = speak(" ".join(words), pauses=[0.4])
    text = [*words[:50], "hgc", *words[51:]]
    found = Aligner(tone_bundle).align(speech.waveform, " ".join(text))
    (flag,) = found.flags
    assert flag.startswith("wrong_word: hgc")
    start = float(flag.split()[-2].split("-")[0])
    assert start == pytest.approx(speech.words[50].start, abs=0.1)


def test_ctc_places_words_too(tone_bundle: Bundle, speak: Callable) -> None:
    speech = speak(SAID)
    for prior in (0.0, 0.5):
        aligner = Aligner(tone_bundle, kind="ctc", label_prior=prior)
        found = aligner.align(speech.waveform, SAID)
        for word, expected in zip(found.words, speech.words, strict=True):
            assert word.start == pytest.approx(expected.start, abs=0.05)
            assert word.end == pytest.approx(expected.end, abs=0.05)
    with pytest.raises(ConfigError, match="expected one of head, ctc"):
        Aligner(tone_bundle, kind="hmm")
    with pytest.raises(ConfigError, match=r"label prior .* with kind 'head'"):
        Aligner(tone_bundle, kind="head", label_prior=0.5)
    with pytest.raises(ConfigError, match="an observer with kind 'ctc'"):
        Aligner(tone_bundle, kind="ctc", observer=print)


def test_the_command_counts_what_is_noticed(
    tone_bundle: Bundle,
    speak: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)
    texts = ["ab cd fe ha", "gah ce b", "dhe fac gb", "eb"]
    cuts = [
        make_cut(id=str(number), audio=speak(text).save(Path(f"{number}.wav")), text=text)
        for number, text in enumerate(texts)
    ]
    write_cuts(cuts, Path("dev.jsonl"))
    check = ["check-flags", "dev.jsonl", "--model", "tones", "--out", "found.json"]
    assert main([*check, "--results", "RESULTS.md", "--title", "tones"]) == 0
    found = json.loads(Path("found.json").read_text("utf-8"))
    assert found["utterances"] == 4
    assert found["limits"] == found["penalties"]  # its old name
    (penalties,) = found["penalties"]
    assert (penalties["drop"], penalties["extra"]) == (6.0, 6.0)
    rows = {row["kind"]: row for row in penalties["kinds"]}
    assert rows["intact"]["false_alarms"] == 0.0
    assert rows["word deleted"]["texts"] == 3
    assert all(row.get("recall", 1.0) == row.get("precision", 1.0) == 1.0 for row in rows.values())
    assert "| texts swapped | 4 | 4 | 100.0 | 100.0 | 100.0 |" in capsys.readouterr().out
    assert "| word deleted | 3 | 3 | 100.0 |" in Path("RESULTS.md").read_text("utf-8")
    assert main([*check, "--penalties", "1e9"]) == 0  # nothing is worth so much
    found = json.loads(Path("found.json").read_text("utf-8"))
    rows = {row["kind"]: row for row in found["penalties"][0]["kinds"]}
    assert rows["word inserted"]["named"] == 0.0
    write_cuts(cuts[:1], Path("one.jsonl"))  # nothing to swap it with
    assert main(["check-flags", "one.jsonl", "--model", "tones"]) == 0
    assert "| texts swapped | 0 | 0 |" in capsys.readouterr().out
    write_cuts([make_cut(id="none", audio=Path("0.wav"), text="")], Path("none.jsonl"))
    assert main(["check-flags", "none.jsonl", "--model", "tones"]) == 2
    assert "no utterance has a text" in capsys.readouterr().err


def test_windows_cost_what_lies_far_from_where_ctc_finds_it() -> None:
    tokenizer = train_tokenizer(["ab"], kind="char")
    aligned = tokenizer.encode_aligned("ab")  # silence, a, b, silence
    first = np.array([-np.inf, 8, 20, -np.inf], np.float32)
    last = np.array([np.inf, 12, 20, np.inf], np.float32)
    costs = window_costs([CtcWindows(first, last)], torch.zeros(1, 40, 4), 0.01)
    assert costs is not None and window_costs([None], torch.zeros(1, 40, 4), 0.01) is None
    cost = costs[0].numpy()
    assert cost.shape == (40, 4)
    assert not cost[:, [0, 3]].any()
    assert cost[:, 1].nonzero()[0].tolist() == [0, 1, *range(19, 40)]  # 8 to 12, and 6 beside
    assert cost[[1, 0, 19, 20], 1] == pytest.approx([1.0, 2.0, 1.0, 2.0], abs=1e-4)
    assert cost.max() == cost[39, 1] == 5.0
    scores = torch.full((1, 40, 4), -9.0)
    scores[0, :, [0, 3]] = -2.0
    scores[0, 30:34, 1] = scores[0, 34:38, 2] = -0.1  # a likely copy far from the windows
    scores[0, 8:14, 1] = scores[0, 14:23, 2] = -0.2
    (free,) = find_paths(scores, torch.tensor([40]), [aligned])
    (held,) = find_paths(scores, torch.tensor([40]), [aligned], costs)
    assert free.first[1:3].tolist() == [8, 14]
    scores[0, 8:23, 1:3] = -1.5
    (free,) = find_paths(scores, torch.tensor([40]), [aligned])
    (held,) = find_paths(scores, torch.tensor([40]), [aligned], costs)
    assert free.first[1] == 30 and held.first[1] <= 8
    spoken = scores[0, held.first[1] : held.last[1], 1]
    assert held.log_probs[1] == pytest.approx(float(spoken.sum()))  # the head's own


def test_windows_are_as_wide_as_ctc_is_unsure(tone_bundle: Bundle, speak: Callable) -> None:
    """Two equal letters with hardly a pause: CTC cannot say where one ends, and does not."""
    speech = speak("ab bc da ac", pauses=[0.05])
    found = Aligner(tone_bundle).align(speech.waveform, speech.text)
    for word, expected in zip(found.words, speech.words, strict=True):
        assert word.start == pytest.approx(expected.start, abs=0.011)
        assert word.end == pytest.approx(expected.end, abs=0.011)
