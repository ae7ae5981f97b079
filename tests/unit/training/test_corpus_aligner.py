"""Learning to align from recordings and texts alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmm.alignments import Alignment
from speechmm.alignments.jsonl import read_jsonl
from speechmm.audio.log_mel import LogMelConfig
from speechmm.cli.main import main
from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError, CheckpointError, ConfigError, ManifestError
from speechmm.inference.alignment.aligner_folder import (
    load_corpus_aligner,
    pronouncing,
    save_corpus_aligner,
)
from speechmm.inference.alignment.corpus_aligner import CorpusAligner
from speechmm.inference.alignment.trust import outliers, wrong_texts
from speechmm.inference.engine.sources import Source
from speechmm.text.lexicon import read_lexicon
from speechmm.training.aligner_settings import LearningSettings, learning_settings
from speechmm.training.augmentation.noise_reverb import NoiseReverbConfig
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
    save_corpus_aligner(aligner, tmp_path / "aligner")
    again = load_corpus_aligner(tmp_path / "aligner")
    assert again.align(corpus[0][0]).to_dict() == aligner.align(corpus[0][0]).to_dict()
    (tmp_path / "aligner" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="aligner"):
        load_corpus_aligner(tmp_path / "aligner")


def test_learning_goes_on_from_an_aligner_and_bears_noise(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]], aligner: CorpusAligner
) -> None:
    """From good alignments on, one short round is enough; half the utterances are noisy while learning."""
    sources, truth = corpus
    noise = NoiseReverbConfig(noise_share=0.5, noise_min_db=15.0)
    said: list[str] = []
    other = LogMelConfig(n_mels=80)  # which the first aligner could not hear
    settings = replace(
        QUICK, features=other, rounds=0, members=1, steps_at_least=120, noise_reverb=noise
    )
    further = learn_aligner(sources, start=aligner, settings=settings, report=said.append)
    assert not any("flat start" in line for line in said)
    assert (further.units, further.features) == (aligner.units, aligner.features)
    errors = [
        abs(one.start - start)
        for found in further.align_sources(sources)
        for one, (start, _) in zip(found.units["char"], truth[found.id], strict=True)
    ]
    assert np.median(errors) < 0.012


def test_a_lexicon_says_how_words_sound_and_the_recording_which_way(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]], tmp_path: Path
) -> None:
    """Each letter has a phone of another name; a homograph is said in either of two ways."""
    sources, _ = corpus
    names = {"a": "AA1", "o": "OW0", "s": "S", "k": "K"}
    said = {one.id: [names[letter] for letter in one.text or ""] for one in sources}
    entries = {one.text: said[one.id] for one in sources}
    lines = [f"{word} 0.9 {' '.join(phones)}" for word, phones in entries.items()]
    lines += [
        f"homograph {' '.join(phones)}" for phones in (["K", "OW0", "S"], ["S", "AA1", "K", "S"])
    ]
    path = tmp_path / "lexicon.txt"
    path.write_text("\n".join(lines))
    lexicon = read_lexicon(path)
    aligner = learn_aligner(sources, lexicon=lexicon, settings=QUICK)
    assert aligner.units.kind == "phone"
    assert set(aligner.units.units) == set(names.values())
    for found in aligner.align_sources(sources):
        assert [one.label for one in found.units["phone"]] == said[found.id]
    random = np.random.default_rng(9)
    for word, phones in (("kos", ["K", "OW0", "S"]), ("saks", ["S", "AA1", "K", "S"])):
        waveform = torch.from_numpy(spoken(word, random)[0]).float()
        found = aligner.align(Source(id="h", waveform=waveform, text="homograph"))
        assert [one.label for one in found.units["phone"]] == phones
    with pytest.raises(AlignmentError, match="no pronunciation of other"):
        aligner.align(Source(id="h", waveform=torch.zeros(RATE), text="homograph other"))
    save_corpus_aligner(aligner, tmp_path / "aligner")
    again = load_corpus_aligner(tmp_path / "aligner")
    with pytest.raises(ConfigError, match="--lexicon: found none"):
        pronouncing(again, None)
    assert pronouncing(again, None, lexicon).align(sources[0]) == aligner.align(sources[0])


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "width: 96\nnoise_reverb: {noise_share: 0.3}\nfeatures: {n_mels: 40, hop_length: 160}"
    )
    found = learning_settings(path, seed=3)
    assert (found.width, found.seed, found.noise_reverb.noise_share) == (96, 3, 0.3)
    assert found.features.frame_shift == 0.01
    assert found.rounds == LearningSettings().rounds
    path.write_text("seed: 7\nleading_epochs: 0")
    assert learning_settings(path).seed == 7
    assert learning_settings(path, seed=0).seed == 0
    assert learning_settings(None).seed == 0
    for wrong in (
        "breadth: 1",
        "width: a",
        "width: null",
        "kernel: 4",
        "start_epochs: 0",
        "mask_bands: 0",
        "mask_bands: 41",
        "[1]",
        "{",
        "features: 3",
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="expected"):
            learning_settings(path, seed=0)


def test_learning_is_the_same_every_time_and_leaves_random_numbers_alone(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the scores of few utterances are held in memory at once."""
    settings = LearningSettings(
        start_epochs=1, rounds=1, round_epochs=1, members=1, member_epochs=1, steps_at_least=2
    )
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = learn_aligner(corpus[0][:8], settings=settings)
    monkeypatch.setattr("speechmm.training.corpus_aligner._MOST_SCORES", 3000)
    second = learn_aligner(corpus[0][:8], settings=settings)
    assert torch.rand(1) == expected
    for name, value in first.networks[0].state_dict().items():
        assert torch.equal(value, second.networks[0].state_dict()[name]), name


def test_what_cannot_be_learned_from_is_named(
    corpus: tuple[list[Source], dict[str, list[tuple[float, float]]]],
) -> None:
    short = Source(id="short", waveform=torch.zeros(800), text="a" * 50)
    dense = Source(id="dense", waveform=torch.zeros(70 * RATE), text="ka " * 10_000)
    silent = Source(id="silent", waveform=torch.zeros(8000), text="...")
    skipped = SkipReport()
    with pytest.raises(ManifestError, match="none of 3"):
        learn_aligner([short, dense, silent], settings=QUICK, skipped=skipped)
    assert [item for item, _ in skipped.items] == ["dense", "short", "silent"]


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "quick.yaml"
    settings.write_text(
        "batch_frames: 600\nstart_epochs: 4\nleading_epochs: 2\nrounds: 1\nround_epochs: 4\n"
        "member_epochs: 4\nsteps_at_least: 80\n"
    )
    quick = ["--learn-settings", str(settings)]
    random = np.random.default_rng(0)
    for number in range(12):
        samples, _ = spoken("kaos"[: 2 + number % 3], random)
        soundfile.write(tmp_path / f"{number}.wav", samples, RATE)
        (tmp_path / f"{number}.txt").write_text("kaos"[: 2 + number % 3])
    folder, out, saved = map(str, (tmp_path, tmp_path / "out.jsonl", tmp_path / "aligner"))
    learn = ["align", folder, "--learn", "--save", saved, "--format", "jsonl", "--out", out]
    assert main([*learn, *quick]) in (0, 3)
    assert "far worse than the others: 0 of 12" in capsys.readouterr().err
    learned = read_jsonl(Path(out))
    assert len(learned) == 12
    again = str(tmp_path / "again.jsonl")
    assert main(["align", folder, "--model", saved, "--format", "jsonl", "--out", again]) in (0, 3)
    once_more = read_jsonl(Path(again))
    assert [one.units for one in once_more] == [one.units for one in learned]
    further = ["align", folder, "--learn", "--model", saved, "--format", "jsonl", "--out", out]
    capsys.readouterr()
    assert main([*further, *quick]) in (0, 3)
    assert "flat start" not in capsys.readouterr().err
    labels = [[segment.label for segment in one.units["char"]] for one in learned]
    assert [[one.label for one in found.units["char"]] for found in read_jsonl(Path(out))] == labels
    assert main(["align", folder, "--model", saved, "--language", "de", "--out", out]) == 2
    assert (
        "--language: has no effect on an aligner that has learned letters"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--learn", "--model", "x"], "--model, --learn: found both, and x is no aligner"),
        (["--save", "x"], "--save: has no effect without --learn"),
        (["--seed", "1"], "--seed: has no effect without --learn"),
        (["--learn-settings", "x"], "--learn-settings: has no effect without --learn"),
        (["--learn", "--pictures", "p"], "--pictures: has no effect"),
        (["--learn", "--device", "cuda"], "--device: found 'cuda'"),
        (["--model", "x", "--language", "de"], "--language: has no effect with the bundle"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["align", str(tmp_path), "--out", str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_text_is_wrong_where_it_fits_badly_and_worse_than_the_others() -> None:
    def heard(confidences: list[float]) -> list[Alignment]:
        return [
            Alignment(id=str(number), audio="", start=0.0, duration=1.0, units={}, confidence=value)
            for number, value in enumerate(confidences)
        ]

    clear = [0.4, 0.5, 0.45, 0.38, 0.52, 0.47, 0.41, 0.44, 0.5, 0.43]
    assert wrong_texts(heard([*clear, 0.05])) == {"10"}
    assert wrong_texts(heard([*clear, 0.2])) == set()
    foreign = [value / 5 for value in clear]
    assert wrong_texts(heard([*foreign, 0.005])) == {"10"}
    assert wrong_texts(heard([0.05, 0.4])) == {"0"}
    assert outliers(heard([0.45, 0.44, 0.33])) == set()  # of so few none stands out
