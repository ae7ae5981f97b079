"""Models of several languages: which tag a search begins with, what is refused, what rows say."""

import json
from pathlib import Path

import pytest
import soundfile
import torch

import speechmm
from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.cli.main import main
from speechmm.errors import ConfigError
from speechmm.inference.api import Model
from speechmm.inference.engine.sources import Source
from speechmm.inference.recognition.languages import most_written
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.run_info import decoding_settings
from speechmm.inference.recognition.search import search
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import load_bundle, save_bundle
from speechmm.models.onnx_export import DecoderStepGraph, export_bundle
from speechmm.models.speech_text import HEADS, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig

TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, align_dim=8
)
TAGS = ("asr", "asr:de", "asr:en", "translate:en", "translate:fr")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, tokenizer):
    """``bundles("asr", "asr:de")`` is the folder of a random model with these tags."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*tags: str) -> Path:
        if tags not in made:
            torch.manual_seed(1)
            model = SpeechTextModel(TINY, vocab_size=tokenizer.vocab_size, n_mels=80, tags=tags)
            model.decoder.output.weight.data *= 8  # so that texts differ from tag to tag
            made[tags] = tmp_path_factory.mktemp("bundles") / "bundle"
            save_bundle(made[tags], model, tokenizer, LogMelConfig())
        return made[tags]

    return make


def noise(seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))


def text_with(bundle, waveform, tag: str, options: SearchOptions) -> str:
    """What a search with one tag gives, chunk and gate left aside."""
    transcriber = Transcriber(load_bundle(bundle), options=options)
    encoding = transcriber.encoder.encode([waveform])
    ((best, *_),) = search(transcriber.encoder.model, encoding, options, tag=tag)
    return transcriber.tokenizer.decode(best.tokens)


@pytest.mark.parametrize("decoder", ["attention", "joint"])
def test_the_language_that_is_named_is_asked_for(bundles, decoder):
    bundle, options = bundles(*TAGS), SearchOptions(decoder=decoder, speech_gate=False)
    model = speechmm.load(bundle)
    texts = set()
    for language in ("de", "en"):
        found = model.transcribe(noise(), language=language.upper(), options=options)
        expected = text_with(bundle, noise(), f"asr:{language}", options)
        assert (found.text, found.language, found.task) == (expected, language, "asr")
        assert expected
        texts.add(expected)
    assert len(texts) == 2


@pytest.mark.parametrize("heads", [("decoder", "align"), ("decoder",), ("ctc", "align"), HEADS])
def test_a_named_task_is_searched_by_the_heads_of_the_model(bundles, with_heads, heads):
    model = Model(with_heads(load_bundle(bundles("asr")), heads))
    assert model.transcribe(noise(), task="asr") == model.transcribe(noise())


def test_a_named_language_is_searched_by_the_heads_of_the_model(bundles, with_heads):
    model = Model(with_heads(load_bundle(bundles(*TAGS)), ["decoder", "align"]))
    expected = model.transcribe(
        noise(), options=SearchOptions(decoder="attention", task="asr", language="de")
    )
    assert model.transcribe(noise(), task="asr", language="de") == expected
    assert model.transcribe(noise(), language="de") == expected
    translated = model.transcribe(noise(), task="translate", target_language="fr")
    assert (translated.task, translated.language) == ("translate", "fr")


def test_the_decoder_finds_the_language_of_each_utterance(bundles, monkeypatch):
    options = SearchOptions(decoder="attention", speech_gate=False)
    bundle = load_bundle(bundles(*TAGS))
    monkeypatch.setattr(
        SpeechTextModel,
        "language_logits",
        lambda self, encoding: torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]),
    )
    sources = [Source(id=str(seed), waveform=noise(1.0, seed)) for seed in range(3)]
    found = list(Transcriber(bundle, options=options).transcribe_sources(sources))
    assert [one.language for one in found] == ["de", "en", "de"]
    assert [one.text for one in found] == [
        text_with(bundles(*TAGS), noise(1.0, seed), f"asr:{language}", options)
        for seed, language in enumerate(("de", "en", "de"))
    ]


def test_of_one_language_there_is_nothing_to_find(bundles):
    options = SearchOptions(decoder="attention", speech_gate=False)
    found = speechmm.load(bundles("asr", "asr:de")).transcribe(noise(), options=options)
    assert found.language == "de"
    plain = speechmm.load(bundles("asr")).transcribe(noise(), options=options)
    assert (plain.language, plain.to_dict().keys() & {"language", "task"}) == ("", set())


def test_greedy_ctc_knows_no_language(bundles):
    options = SearchOptions(decoder="ctc", speech_gate=False)
    assert speechmm.load(bundles(*TAGS)).transcribe(noise(), options=options).language == ""


def test_translations_are_asked_for_and_have_no_times(bundles):
    model = speechmm.load(bundles(*TAGS))
    options = SearchOptions(
        decoder="attention", task="translate", target_language="fr", speech_gate=False, beam=3
    )
    found = model.transcribe(noise(), options=options)
    row = found.to_dict()
    assert (row["task"], row["language"], row["words"]) == ("translate", "fr", [])
    assert row["text"] == text_with(bundles(*TAGS), noise(), "translate:fr", options)
    assert 0 < row["confidence"] <= 1
    only = speechmm.load(bundles("asr", "translate:en"))
    assert only.transcribe(noise(), task="translate").task == "translate"


def test_a_translation_may_be_longer_than_what_is_said(bundles, tokenizer):
    """Up to two tokens an encoder frame, where recognition writes one at most."""
    options = SearchOptions(decoder="attention", task="translate", target_language="en")
    transcriber = Transcriber(load_bundle(bundles(*TAGS)), options=options)
    encoding = transcriber.encoder.encode([noise(0.5)])
    transcriber.encoder.model.decoder.output.bias.data[tokenizer.pieces.index("<eos>")] = -1e3
    frames = int(encoding.enc_lengths)
    for choice, most in ((options, 2 * frames), (SearchOptions(decoder="attention"), frames)):
        ((best, *_),) = search(transcriber.encoder.model, encoding, choice, tag="translate:en")
        assert len(best.tokens) == most


@pytest.mark.parametrize(
    ("tags", "asked", "message"),
    [
        (
            TAGS,
            {"language": "fr"},
            "--language: found 'fr'; expected one of de, en, which the model",
        ),
        (
            ("asr",),
            {"language": "de"},
            "found 'de'; expected none, as the model was trained without",
        ),
        (("asr",), {"task": "translate"}, "was trained on asr; expected translate"),
        (("translate:en",), {"task": "asr"}, "was trained on translate:en; expected asr"),
        (TAGS, {"task": "translate"}, "--target-language: none is given; expected one of en, fr"),
        (
            TAGS,
            {"task": "translate", "target_language": "de"},
            "--target-language: found 'de'; expected one of en, fr, into which it can",
        ),
        (TAGS, {"task": "translate", "language": "de"}, "expected none, as whatever is spoken"),
        (TAGS, {"target_language": "en"}, "and task asr; expected none, as nothing is translated"),
        (TAGS, {"task": "sing"}, "task is 'sing'; expected one of asr, translate"),
        (TAGS, {"language": " "}, "language is ' '; expected the code"),
    ],
)
def test_what_a_model_cannot_do_is_refused_in_one_line(bundles, tags, asked, message):
    with pytest.raises(ConfigError, match=message):
        speechmm.load(bundles(*tags)).transcribe(noise(), **asked)


@pytest.mark.parametrize("decoder", ["ctc", "joint"])
def test_ctc_translates_nothing(decoder):
    with pytest.raises(ConfigError, match=f"decoder is '{decoder}' and task translate; expected"):
        SearchOptions(decoder=decoder, task="translate")
    assert SearchOptions(task="translate").searched_by == "attention"
    with pytest.raises(ConfigError, match="as CTC is told no language"):
        SearchOptions(decoder="joint", ctc_weight=1.0, language="de")


def test_settings_name_the_task_and_the_language_where_there_are_some():
    plain = decoding_settings(SearchOptions())
    assert plain.keys() == {
        "decoder",
        "beam",
        "ctc_weight",
        "length_bonus",
        "n_best",
        "speech_gate",
    }
    asked = SearchOptions(decoder="attention", task="translate", target_language="en")
    assert (
        decoding_settings(asked).items() >= {"task": "translate", "target_language": "en"}.items()
    )


def test_the_language_of_most_words():
    def said(text: str) -> list[Segment]:
        return [Segment(label=word, start=0.0, end=1.0) for word in text.split()]

    assert (
        most_written([("de", said("a b c")), ("en", said("a b c d")), ("de", said("a b"))]) == "de"
    )
    assert most_written([("de", [])]) == most_written([]) == ""
    assert most_written([("en", said("one two three")), ("zh", said("我们去图书馆"))]) == "zh"


def test_from_the_command_line(bundles, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", noise().numpy(), 16_000)
    argv = [
        "transcribe",
        str(tmp_path / "a.wav"),
        "--model",
        str(bundles(*TAGS)),
        "--no-speech-gate",
    ]
    out = tmp_path / "out.jsonl"
    translate = ["--task", "translate", "--target-language", "en"]
    assert main([*argv, *translate, "--format", "jsonl", "--out", str(out)]) == 0
    row = json.loads(out.read_text())
    assert (row["task"], row["language"], row["words"]) == ("translate", "en", [])
    meta = json.loads(out.with_name("out.jsonl.meta.json").read_text())
    assert meta["decoding"]["decoder"] == "attention"
    capsys.readouterr()
    assert main([*argv, *translate]) == 0
    assert capsys.readouterr().out.strip() == row["text"]
    assert main([*argv, "--language", "de", "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["language"] == "de"
    for flags, message in (
        ([*translate, "--format", "srt"], "--format srt: translations have no times of words"),
        ([*translate, "--decoder", "joint"], "decoder is 'joint' and task translate"),
        (
            [*translate, "--ctc-weight", "0.5"],
            "--ctc-weight: has no effect with --decoder attention",
        ),
        (["--language", "es"], "--language: found 'es'; expected one of de, en"),
    ):
        assert main([*argv, *flags]) == 2
        assert message in capsys.readouterr().err
    assert main(["info", str(bundles(*TAGS))]) == 0
    facts = capsys.readouterr().out
    assert "\nlanguages: de, en\n" in facts
    assert "\ntranslates_into: en, fr\n" in facts
    card = (bundles(*TAGS) / "README.md").read_text()
    assert "It recognises de, en. It translates into en, fr." in card


def test_graphs_are_for_one_language(bundles, tmp_path):
    bundle = load_bundle(bundles(*TAGS))
    with pytest.raises(ConfigError, match="--language: none is given; expected one of de, en"):
        export_bundle(bundle, tmp_path / "onnx")
    with pytest.raises(ConfigError, match="found 'fr'; expected one of de, en"):
        export_bundle(bundle, tmp_path / "onnx", language="fr")
    assert not (tmp_path / "onnx").exists()
    assert [DecoderStepGraph(bundle.model, tag).place for tag in ("asr", "asr:en")] == [0, 2]
