"""Synthetic speech as training data: voices drawn by seed, cuts that say what they are."""

import contextlib
import io
from pathlib import Path

import pytest
import soundfile
import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.cli.main import main
from speechmm.data.manifest import cut_text, is_synthetic, read_cuts, reference_alignment
from speechmm.data.spoken import speaker_of
from speechmm.inference.synthesis.spoken_cuts import draw_voice
from speechmm.models.bundle import save_bundle
from speechmm.models.bundle_config import TrainingInfo
from speechmm.models.speech_text import TTS, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.voice import VoiceConfig
from speechmm.text.tokenizer import Tokenizer

MEL = LogMelConfig(n_mels=20, n_fft=512, win_length=512, hop_length=200)
TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, front_channels=4
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Of an untrained model with two voices, whose tokens last."""
    torch.manual_seed(0)
    features = LogMelConfig()
    model = SpeechTextModel(
        TINY,
        vocab_size=tokenizer.vocab_size,
        n_mels=features.n_mels,
        align_vocab_size=tokenizer.align_vocab_size,
        heads=("ctc", "decoder", "align", TTS),
        voice=VoiceConfig(mel=MEL, speakers=("anna", "bob"), token_layers=1, mel_layers=1),
    )
    assert model.voice is not None
    model.voice.duration.bias.data.fill_(1.8)
    model.voice.mel_mean.fill_(-6.0)
    path = tmp_path_factory.mktemp("voices") / "bundle"
    save_bundle(path, model, tokenizer, features, training=TrainingInfo(seed=7))
    return path


def call(*arguments: object) -> tuple[int, str]:
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, err.getvalue()


def test_voices_are_drawn_by_seed_and_name():
    drawn = [draw_voice(("a", "b"), 1.0, seed=3, id=str(n)) for n in range(200)]
    assert drawn == [draw_voice(("a", "b"), 1.0, seed=3, id=str(n)) for n in range(200)]
    assert drawn != [draw_voice(("a", "b"), 1.0, seed=4, id=str(n)) for n in range(200)]
    assert 60 < [speaker for speaker, _ in drawn].count("a") < 140
    rates = sorted(rate for _, rate in drawn)
    assert 0.8 <= rates[0] < 0.85
    assert 1.2 < rates[-1] <= 1.25
    assert rates[100] == pytest.approx(1.0, abs=0.08)
    assert draw_voice(("a",), 4.0, seed=0, id="x")[1] <= 4.0


def test_a_manifest_of_what_was_spoken(bundle: Path, tmp_path: Path):
    lines = tmp_path / "lines.txt"
    lines.write_text("ab cd\nhf a\n日本 ab\n" + "cd ab\n" * 6, encoding="utf-8")
    out, manifest = tmp_path / "out", tmp_path / "spoken.jsonl.gz"
    command = ["synthesize", lines, "--model", bundle, "--out", out, "--manifest", manifest]
    code, err = call(*command, "--vary", "1")
    assert code == 3
    assert "0003" in err  # a part of its text is not spoken
    cuts = {cut.id: cut for cut in read_cuts(manifest)}
    assert sorted(cuts) == ["0001", "0002", *(f"000{n}" for n in range(4, 10))]
    assert cut_text(cuts["0002"]) == "hf a"
    assert all(map(is_synthetic, cuts.values()))
    for name, cut in cuts.items():
        info = soundfile.info(out / f"{name}.wav")
        assert cut.duration == pytest.approx(info.duration)
        found = reference_alignment(cut)
        assert found is not None
        assert [one.label for one in found.words] == cut_text(cut).split()
    assert {speaker_of(cut) for cut in cuts.values()} == {"anna", "bob"}
    assert len({round(cuts[f"000{n}"].duration, 3) for n in range(4, 10)}) > 2
    for flags, speakers in (
        (("--vary", "1"), {"anna", "bob"}),
        (("--vary", "1", "--speaker", "bob"), {"bob"}),
        ((), {"anna"}),
    ):
        again = tmp_path / "again.jsonl.gz"  # written over
        assert call(*command[:-1], again, *flags)[0] == 3
        assert {speaker_of(cut) for cut in read_cuts(again)} == speakers
        assert (again.read_bytes() == manifest.read_bytes()) == (len(flags) == 2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "-", "--manifest", "a.jsonl"], "--out is stdout"),
        (["--out", "a.wav", "--manifest", "a.txt"], "expected a name that ends in"),
    ],
)
def test_what_no_manifest_can_be_is_refused(bundle: Path, flags: list[str], message: str):
    code, err = call("synthesize", "ab", "--model", bundle, *flags)
    assert code == 2
    assert message in err
