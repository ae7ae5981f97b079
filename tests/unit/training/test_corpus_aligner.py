"""Learning to align from recordings and texts alone."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmm.alignments.jsonl import read_jsonl
from speechmm.cli.main import main
from speechmm.data.skips import SkipReport
from speechmm.errors import CheckpointError, ManifestError
from speechmm.inference.alignment.corpus_aligner import (
    CorpusAligner,
    load_corpus_aligner,
    outliers,
)
from speechmm.inference.engine.sources import Source
from speechmm.training.corpus_aligner import LearningSettings, learn_aligner

RATE = 16000
TONES = {"a": 400.0, "o": 900.0, "s": 2600.0, "k": 5200.0}
QUICK = LearningSettings(
    batch_frames=600,
    start_epochs=4,
    leading_epochs=2,
    rounds=1,
    round_epochs=4,
    member_epochs=4,
    steps_at_least=80,
)


def spoken(word: str, random: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A tone for each letter, silence around, and when each letter sounds."""
    parts = [np.zeros(int(random.uniform(0.05, 0.3) * RATE))]
    times = []
    for letter in word:
        length = int(random.uniform(0.06, 0.2) * RATE)
        first = sum(map(len, parts)) / RATE
        times.append((first, first + length / RATE))
        parts.append(0.3 * np.sin(2 * np.pi * TONES[letter] * np.arange(length) / RATE))
    parts.append(np.zeros(int(random.uniform(0.05, 0.3) * RATE)))
    samples = np.concatenate(parts)
    return samples + 0.003 * random.normal(size=len(samples)), times


@pytest.fixture(scope="module")
def corpus() -> tuple[list[Source], dict[str, list[tuple[float, float]]]]:
    random = np.random.default_rng(3)
    sources, truth = [], {}
    for number in range(40):
        word = "".join(random.choice(list(TONES), size=random.integers(2, 5)))
        samples, truth[f"u{number}"] = spoken(word, random)
        waveform = torch.from_numpy(samples).float()
        sources.append(Source(id=f"u{number}", waveform=waveform, text=word))
    return sources, truth


@pytest.fixture(scope="module")
def aligner(corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]]) -> CorpusAligner:
    return learn_aligner(corpus[0], settings=QUICK)


def test_edges_are_where_the_letters_sound(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]], aligner: CorpusAligner
) -> None:
    sources, truth = corpus
    errors, inside = [], []
    for found in aligner.align_sources(sources):
        assert "".join(one.label for one in found.units["char"]) == found.words[0].label
        for one, (start, end) in zip(found.units["char"], truth[found.id], strict=True):
            errors += [abs(one.start - start), abs(one.end - end)]
            assert one.start_range is not None
            assert one.start_range[0] <= one.start <= one.start_range[1]
            inside.append(one.start_range[0] - 0.01 <= start <= one.start_range[1] + 0.01)
    assert np.median(errors) < 0.012
    assert np.mean(errors) < 0.025
    assert np.mean(inside) > 0.5


def test_a_saved_aligner_aligns_the_same(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]],
    aligner: CorpusAligner,
    tmp_path: Path,
) -> None:
    aligner.save(tmp_path / "aligner")
    again = load_corpus_aligner(tmp_path / "aligner")
    assert again.align(corpus[0][0]).to_dict() == aligner.align(corpus[0][0]).to_dict()
    (tmp_path / "aligner" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="aligner"):
        load_corpus_aligner(tmp_path / "aligner")


def test_learning_is_the_same_every_time_and_leaves_random_numbers_alone(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]],
) -> None:
    settings = LearningSettings(
        start_epochs=1, rounds=1, round_epochs=1, members=1, member_epochs=1, steps_at_least=2
    )
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (learn_aligner(corpus[0][:8], settings=settings) for _ in range(2))
    assert torch.rand(1) == expected
    for name, value in first.networks[0].state_dict().items():
        assert torch.equal(value, second.networks[0].state_dict()[name]), name


def test_what_cannot_be_learned_from_is_named(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]],
) -> None:
    short = Source(id="short", waveform=torch.zeros(800), text="a" * 50)
    long = Source(id="long", waveform=torch.zeros(70 * RATE), text="a")
    silent = Source(id="silent", waveform=torch.zeros(8000), text="...")
    skipped = SkipReport()
    with pytest.raises(ManifestError, match="none of 3"):
        learn_aligner([short, long, silent], settings=QUICK, skipped=skipped)
    assert [item for item, _ in skipped.items] == ["short", "long", "silent"]


def test_of_a_large_corpus_some_is_learned_from(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]],
) -> None:
    said: list[str] = []
    settings = LearningSettings(
        start_epochs=1,
        rounds=0,
        members=1,
        member_epochs=1,
        steps_at_least=1,
        most_frames=1000,
    )
    aligner = learn_aligner(corpus[0], settings=settings, report=said.append)
    assert 5 <= int(said[0].split(" from ")[1].split()[0]) < len(corpus[0])
    assert len(list(aligner.align_sources(corpus[0]))) == len(corpus[0])


def test_an_utterance_with_another_text_stands_out(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]], aligner: CorpusAligner
) -> None:
    sources = list(corpus[0])
    sources[7] = Source(id="u7", waveform=sources[7].waveform, text="kskskoaok")
    found = list(aligner.align_sources(sources))
    assert "u7" in outliers(found)
    assert min(found, key=lambda one: one.confidence or 0.0).id == "u7"
    assert len(outliers(found)) < len(found) / 4


def test_the_command_learns_and_uses_what_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("speechmm.training.corpus_aligner.LearningSettings", lambda seed: QUICK)
    random = np.random.default_rng(0)
    for number in range(12):
        samples, _ = spoken("kaos"[: 2 + number % 3], random)
        soundfile.write(tmp_path / f"{number}.wav", samples, RATE)
        (tmp_path / f"{number}.txt").write_text("kaos"[: 2 + number % 3])
    folder, out, saved = map(str, (tmp_path, tmp_path / "out.jsonl", tmp_path / "aligner"))
    learn = ["align", folder, "--learn", "--save", saved, "--format", "jsonl", "--out", out]
    assert main(learn) in (0, 3)
    assert "12 utterances aligned" in capsys.readouterr().err
    learned = read_jsonl(Path(out))
    assert len(learned) == 12
    again = str(tmp_path / "again.jsonl")
    assert main(["align", folder, "--model", saved, "--format", "jsonl", "--out", again]) in (0, 3)
    once_more = read_jsonl(Path(again))
    assert [one.units for one in once_more] == [one.units for one in learned]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--model: found none"),
        (["--learn", "--model", "x"], "--model, --learn: found both"),
        (["--learn", "--pictures", "p"], "--pictures: has no effect"),
        (["--learn", "--device", "cuda"], "--device: found 'cuda'"),
        (["--model", "x", "--language", "de"], "--language: has no effect with --model"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["align", str(tmp_path), "--out", str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err
