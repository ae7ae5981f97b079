"""Hypotheses ranked by the likelihood of the audio: sums over alignments, orders, flags."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from speechmm.cli.main import main
from speechmm.errors import ConfigError
from speechmm.inference.engine.sources import Source
from speechmm.inference.recognition.alignment_scores import (
    LEAST_PER_FRAME,
    log_likelihoods,
    rescore,
)
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import load_bundle
from speechmm.text.tokenizer import SIL


def brute_force(scores: torch.Tensor, skippable: list[bool]) -> float:
    """The log of the mean over all paths that visit every token in order, silences or not."""
    frames, tokens = scores.shape
    sums = []
    for path in itertools.product(range(tokens), repeat=frames):
        steps = [after - before for before, after in itertools.pairwise(path)]
        left_out = set(range(tokens)) - set(path)
        if min(steps, default=0) < 0 or not all(skippable[one] for one in left_out):
            continue
        sums.append(sum(float(scores[frame, token]) for frame, token in enumerate(path)))
    return math.log(sum(map(math.exp, sums)) / len(sums))


def test_the_likelihood_is_the_mean_over_all_alignments():
    torch.manual_seed(0)
    log_probs = torch.randn(3, 6, 5).log_softmax(dim=2)
    tokens = torch.tensor([[0, 3, 0, 2, 0], [0, 4, 0, 0, 0], [0, 1, 2, 0, 0]])
    lengths, token_lengths = torch.tensor([6, 5, 4]), torch.tensor([5, 3, 4])
    skippable = tokens == 0
    found = log_likelihoods(log_probs, lengths, tokens, token_lengths, skippable)
    for row in range(3):
        own = tokens[row, : token_lengths[row]]
        scores = log_probs[row, : lengths[row]][:, own]
        expected = brute_force(scores, (own == 0).tolist())
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)


def test_a_text_that_does_not_fit_is_the_least_likely():
    log_probs = torch.full((1, 2, 5), -1.0)
    tokens = torch.tensor([[0, 1, 2, 3, 0]])
    found = log_likelihoods(log_probs, torch.tensor([2]), tokens, torch.tensor([5]), tokens == 0)
    assert found.tolist() == [2 * LEAST_PER_FRAME]


@pytest.fixture(scope="module")
def bundle(random_bundle: Path):
    return load_bundle(random_bundle)


@pytest.fixture(scope="module")
def waveforms() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [0.1 * torch.randn(samples, generator=generator) for samples in (16_000, 9_000)]


def test_a_new_order_by_both_scores(bundle, waveforms):
    transcriber = Transcriber(bundle)
    encoding = transcriber.encoder.encode(waveforms)
    tokenizer = bundle.tokenizer
    texts = [["ab", "cd", "a"], ["hf"]]
    results = [
        [Hypothesis(tokenizer.encode(text), -float(n)) for n, text in enumerate(row)]
        for row in texts
    ]
    weight = 0.3
    found = rescore(bundle.model, tokenizer, encoding, results, weight)
    for row, (own, given) in enumerate(zip(found, texts, strict=True)):
        expected = []
        for number, text in enumerate(given):
            tokens = torch.tensor([tokenizer.encode_aligned(text).ids])
            one = encoding.select(torch.tensor([row]))
            likelihood = log_likelihoods(
                bundle.model.align_log_probs(one),
                one.lengths,
                tokens,
                torch.tensor([tokens.shape[1]]),
                tokens == SIL,
            )
            expected.append((-number + weight * float(likelihood), text))
        expected.sort(reverse=True)
        assert [tokenizer.decode(one.tokens) for one in own] == [text for _, text in expected]
        assert [one.score for one in own] == pytest.approx([score for score, _ in expected])
    same = rescore(bundle.model, tokenizer, encoding, results, 1e-9)
    assert [[one.tokens for one in row] for row in same] == [
        [one.tokens for one in row] for row in results
    ]
    assert rescore(bundle.model, tokenizer, encoding, [[], []], weight) == [[], []]


def test_the_transcriber_ranks_the_whole_beam_and_gives_what_was_asked_for(bundle, waveforms):
    sources = [Source(id=str(n), waveform=one) for n, one in enumerate(waveforms)]
    options = SearchOptions(beam=4, n_best=4, speech_gate=False)
    plain = list(Transcriber(bundle, options=options).transcribe_sources(sources))
    asked = replace(options, n_best=2, align_weight=5.0)
    ranked = list(Transcriber(bundle, options=asked).transcribe_sources(sources))
    encoding = Transcriber(bundle).encoder.encode(waveforms)
    for row, (before, after) in enumerate(zip(plain, ranked, strict=True)):
        assert len(after.alternatives) == 2
        assert after.text == after.alternatives[0].text
        given = [
            Hypothesis(bundle.tokenizer.encode(one.text), one.score) for one in before.alternatives
        ]
        (best,) = rescore(
            bundle.model,
            bundle.tokenizer,
            encoding.select(torch.tensor([row])),
            [given],
            asked.align_weight,
        )
        assert after.alternatives[0].score == pytest.approx(best[0].score, abs=1e-2)
        assert json.dumps(after.to_dict(), allow_nan=False)


def test_without_a_weight_the_search_is_asked_for_the_same():
    options = SearchOptions(beam=4, n_best=2)
    assert options.searched is options
    assert replace(options, align_weight=0.1).searched == replace(options, n_best=4)


@pytest.mark.parametrize("settings", [{"align_weight": 0.1}, {"align_weight": -0.1, "beam": 2},
                                      {"align_weight": math.nan, "beam": 2}])  # fmt: skip
def test_weights_without_effect_are_refused(settings):
    with pytest.raises(ConfigError, match=r"search: align_weight is .*; expected"):
        SearchOptions(**settings)


def test_a_model_without_the_head_is_refused(bundle, with_heads):
    options = SearchOptions(beam=2, align_weight=0.1)
    with pytest.raises(ConfigError, match="--align-weight"):
        Transcriber(with_heads(bundle, ["ctc", "decoder"]), options=options)


def test_the_command_says_what_it_did(random_bundle: Path, waveforms, tmp_path: Path, capsys):
    audio = tmp_path / "a.wav"
    soundfile.write(audio, waveforms[0].numpy(), 16_000)
    out = tmp_path / "a.jsonl"
    shared = ["transcribe", str(audio), "--model", str(random_bundle)]
    shared += ["--format", "jsonl", "--out", str(out)]
    assert main([*shared, "--beam", "3", "--align-weight", "0.2"]) == 0
    meta = Path(f"{out}.meta.json")
    assert json.loads(meta.read_text())["decoding"]["align_weight"] == 0.2
    assert main([*shared, "--beam", "3"]) == 0
    assert "align_weight" not in json.loads(meta.read_text())["decoding"]
    assert main([*shared, "--align-weight", "0.2"]) == 2
    assert "Raise the beam" in capsys.readouterr().err
