"""Recordings above a minute, aligned and learned from without a recogniser."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechmm.alignments import Alignment
from speechmm.alignments.jsonl import read_jsonl
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.cli.main import main
from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError
from speechmm.inference.alignment import recording_parts
from speechmm.inference.alignment.aligner_folder import save_corpus_aligner
from speechmm.inference.alignment.corpus_aligner import ONE_PASS_SECONDS, CorpusAligner
from speechmm.inference.alignment.state_graph import StateGraph
from speechmm.inference.engine.sources import Source, file_sources
from speechmm.training.aligner_settings import LearningSettings
from speechmm.training.aligner_utterances import cut_long
from speechmm.training.corpus_aligner import learn_aligner

RATE = 16000
TONES = {"a": 400.0, "o": 900.0, "s": 2600.0, "k": 5200.0}
QUICK = LearningSettings(
    batch_frames=600,
    start_epochs=4,
    leading_epochs=2,
    rounds=1,
    round_epochs=4,
    member_epochs=4,
    steps_at_least=60,
    members=1,
)


def spoken(random: np.random.Generator) -> Source:
    """Words of tones with pauses around."""
    words = ["".join(random.choice(list(TONES), size=random.integers(2, 5))) for _ in range(6)]
    parts = [np.zeros(int(random.uniform(0.1, 0.4) * RATE))]
    for word in words:
        for letter in word:
            length = int(random.uniform(0.06, 0.2) * RATE)
            parts.append(0.3 * np.sin(2 * np.pi * TONES[letter] * np.arange(length) / RATE))
        parts.append(np.zeros(int(random.uniform(0.1, 0.4) * RATE)))
    samples = np.concatenate(parts)
    samples = samples[
        : len(samples) // 80 * 80
    ]  # whole frames, so that those of the whole are its own
    noisy = samples + 0.003 * random.normal(size=len(samples))
    return Source(id="one", waveform=torch.from_numpy(noisy).float(), text=" ".join(words))


def joined(sources: list[Source], id: str = "long") -> Source:
    waveforms = [one.waveform for one in sources if one.waveform is not None]
    text = " ".join(one.text or "" for one in sources)
    return Source(id=id, waveform=torch.cat(waveforms), text=text)


@pytest.fixture(scope="module")
def short() -> list[Source]:
    random = np.random.default_rng(4)
    return [replace(spoken(random), id=f"u{number}") for number in range(20)]


@pytest.fixture(scope="module")
def aligner(short: list[Source]) -> CorpusAligner:
    return learn_aligner(short[:10], settings=QUICK)


def edges(alignments: list[Alignment], lengths: list[float]) -> np.ndarray:
    """(words, 2) seconds from the start of the first one."""
    before = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.array(
        [
            (at + word.start, at + word.end)
            for at, one in zip(before, alignments, strict=False)
            for word in one.words
        ]
    )


def test_a_long_recording_has_the_edges_of_its_utterances(
    short: list[Source], aligner: CorpusAligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no search sees more than some seconds of it at once."""
    searched: list[int] = []
    found_path = StateGraph.best_path
    whole = joined(short)
    assert whole.duration(RATE) > 1.1 * ONE_PASS_SECONDS
    expected = [aligner.align(one) for one in short]

    def best_path(graph: StateGraph, scores: np.ndarray) -> Any:
        searched.append(len(scores) * len(graph.columns))
        return found_path(graph, scores)

    monkeypatch.setattr(StateGraph, "best_path", best_path)
    found = aligner.align(whole)
    assert [one.label for one in found.words] == (whole.text or "").split()
    assert found.flags == ()
    letters = "".join(one.label for one in found.units["char"])
    assert letters == (whole.text or "").replace(" ", "")
    errors = np.abs(edges([found], [0.0]) - edges(expected, [one.duration(RATE) for one in short]))
    assert np.quantile(errors, 0.98) < 0.005
    assert errors.max() < 0.05
    assert found.confidence == pytest.approx(np.mean([one.confidence for one in expected]), rel=0.2)
    assert len(searched) > 3
    frames, states = 20 / 0.005, 3 * 20 / 0.13  # of 20 s, a letter every 0.13 s
    assert max(searched) < 1.5 * frames * states


def test_what_is_missing_in_the_text_or_too_much_harms_nothing_far_away(
    short: list[Source], aligner: CorpusAligner
) -> None:
    seconds = [one.duration(RATE) for one in short]
    expected = edges([aligner.align(one) for one in short], seconds)
    gone = replace(joined(short), text=" ".join(one.text or "" for one in short[:8] + short[12:]))
    found = edges([aligner.align(gone)], [0.0])
    assert np.abs(found[:42] - expected[:42]).max() < 0.1  # an utterance before the hole
    assert np.abs(found[54:] - expected[78:]).max() < 0.1  # and one behind it
    extra = [*short[:10], *(short[place] for place in (3, 7, 1)), *short[10:]]
    more = aligner.align(replace(joined(short), text=" ".join(one.text or "" for one in extra)))
    found = edges([more], [0.0])
    assert np.abs(found[:42] - expected[:42]).max() < 0.1  # three utterances on either side
    assert np.abs(found[96:] - expected[78:]).max() < 0.1


def test_parts_that_fit_badly_are_flagged_by_their_times(
    short: list[Source], aligner: CorpusAligner
) -> None:
    words = (joined([*short, *short[:10]]).text or "").split()
    other = {"a": "k", "k": "a", "o": "s", "s": "o"}
    words[90:120] = ["".join(other[letter] for letter in word) for word in words[90:120]]
    found = aligner.align(replace(joined([*short, *short[:10]]), text=" ".join(words)))
    (flag,) = found.flags
    kind, _, span = flag.partition(": ")
    first, last = map(float, span.removesuffix(" s").split("-"))
    assert kind == "low_confidence"
    assert first < found.words[98].start < found.words[112].end < last
    assert last - first < 60  # of 120


def test_log_mel_read_in_blocks_is_that_of_the_whole(tmp_path: Path) -> None:
    config = LogMelConfig(n_mels=40, hop_length=80)
    samples = np.random.default_rng(0).normal(scale=0.1, size=70 * RATE + 33)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    (source,) = file_sources([tmp_path / "a.wav"])
    found = recording_parts.block_log_mel(source, config)
    torch.testing.assert_close(found, compute_log_mel(source.load(RATE), config))


def test_silence_between_speech_is_heard_as_the_speech_is(aligner: CorpusAligner) -> None:
    """A minute of noise between two stretches holds no units, though it is centred like speech."""
    random = np.random.default_rng(8)
    first, last = joined([spoken(random) for _ in range(6)]), spoken(random)
    noise = torch.from_numpy(0.003 * random.normal(size=60 * RATE)).float()
    pause = Source(id="pause", waveform=noise, text="")
    found = aligner.align(joined([first, pause, last]))
    begin = first.duration(RATE)
    expected = aligner.align(first).words + [
        one.later(begin + 60) for one in aligner.align(last).words
    ]
    for one, other in zip(found.words, expected, strict=True):
        assert abs(one.start - other.start) < 0.03
        assert abs(one.end - other.end) < 0.03


def test_too_much_text_is_named(aligner: CorpusAligner) -> None:
    long = Source(id="long", waveform=torch.zeros(61 * RATE), text="ka" * 10_000)
    with pytest.raises(AlignmentError, match=r"^long: the utterance: the text needs"):
        aligner.align(long)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_long_recordings_are_cut_to_be_learned_from(
    kind: str, short: list[Source], aligner: CorpusAligner, tmp_path: Path
) -> None:
    whole, said = joined(short), []
    if kind == "file":
        assert whole.waveform is not None
        soundfile.write(tmp_path / "long.wav", whole.waveform.numpy(), RATE, subtype="FLOAT")
        (file,) = file_sources([tmp_path / "long.wav"])
        whole = replace(file, text=whole.text)
    skipped = SkipReport()
    parts = list(
        cut_long([short[0], whole], lambda: aligner, skipped, rate=RATE, report=said.append)
    )
    assert parts[0] is short[0]
    assert len(parts) > 4
    assert not skipped.items
    assert said == [f"{whole.name}: cut into {len(parts) - 1} parts to learn from"]
    assert " ".join(one.text or "" for one in parts[1:]) == whole.text
    assert sum(one.duration(RATE) for one in parts[1:]) <= whole.duration(RATE)
    for one in parts[1:]:
        assert one.duration(RATE) < 25
        assert len(one.load(RATE)) == pytest.approx(one.duration(RATE) * RATE, abs=1)
        words = aligner.align(one).words
        assert words[0].start < 0.6
        assert min(word.confidence or 0.0 for word in words) > 0.1


def test_the_command_learns_from_one_long_recording(
    short: list[Source], aligner: CorpusAligner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = joined(short)
    assert whole.waveform is not None
    soundfile.write(tmp_path / "long.wav", whole.waveform.numpy(), RATE)
    (tmp_path / "long.txt").write_text(whole.text or "")
    settings = tmp_path / "quick.yaml"
    settings.write_text(
        "batch_frames: 600\nrounds: 0\nmember_epochs: 2\nmembers: 1\nsteps_at_least: 20\n"
    )
    save_corpus_aligner(aligner, tmp_path / "aligner")
    out = tmp_path / "out.jsonl"
    flags = ["--learn", "--model", str(tmp_path / "aligner"), "--learn-settings", str(settings)]
    where = ["--format", "jsonl", "--out", str(out)]
    assert main(["align", str(tmp_path / "long.wav"), *flags, *where]) in (0, 3)
    assert "long.wav: cut into" in capsys.readouterr().err
    (found,) = read_jsonl(out)
    assert [one.label for one in found.words] == (whole.text or "").split()
    expected = aligner.align(whole).words
    errors = [abs(a.start - b.start) for a, b in zip(found.words, expected, strict=True)]
    assert np.median(errors) < 0.012
