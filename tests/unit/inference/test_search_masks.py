"""What a search finds against all texts written down, whatever the weights; and what it refuses."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from speechmm.errors import CheckpointError
from speechmm.inference.recognition.fusion.hotwords import HotwordScorer
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL
from speechmm.text.tokenizer_training import train_tokenizer

TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=32, encoder_layers=1, decoder_layers=1, front_channels=4
)
TOKENIZER = train_tokenizer(["ab a b"], kind="char")
SPECIALS = (BLANK, BOS, EOS, SIL)
TEXT_TOKENS = [token for token in range(TOKENIZER.vocab_size) if token not in SPECIALS]


def network(seed: int) -> SpeechTextModel:
    torch.manual_seed(seed)
    model = SpeechTextModel(TINY, vocab_size=TOKENIZER.vocab_size, n_mels=20).eval()
    with torch.no_grad():
        for parameter in model.heads["ctc"].parameters():
            parameter.mul_(4.0)
        for parameter in model.decoder.parameters():
            parameter.mul_(1.5)
    return model


def encoded(model: SpeechTextModel, frames: int, batch: int = 1) -> SpeechEncoding:
    """Speech of so many encoder frames."""
    with torch.no_grad():
        features = torch.randn(batch, 4 * frames, 20)
        encoding = model.encode_speech(features, torch.full((batch,), 4 * frames))
    assert int(encoding.enc_lengths[0]) == frames
    return encoding


def all_scores(
    model: SpeechTextModel, encoding: SpeechEncoding, options: SearchOptions
) -> dict[tuple[int, ...], float]:
    """The score of every possible text: CTC's of the whole text, the decoder's by teacher forcing."""
    scores = {}
    frames = int(encoding.enc_lengths[0])
    ctc = model.ctc_log_probs(encoding)[0].double()
    for size in range(frames + 1):
        for text in itertools.product(TEXT_TOKENS, repeat=size):
            target = torch.tensor([text], dtype=torch.long)
            lengths = (torch.tensor([frames]), torch.tensor([size]))
            spoken = -float(F.ctc_loss(ctc[:, None], target, *lengths, BLANK, reduction="sum"))
            logits = model.decode(target, encoding).logits[0].double().log_softmax(-1)
            said = sum(float(row[token]) for row, token in zip(logits, [*text, EOS], strict=True))
            weight = options.ctc_weight if options.searched_by == "joint" else 0.0
            if weight == 0 or math.isfinite(spoken):
                score = (weight * spoken if weight else 0.0) + (1 - weight) * said
                scores[text] = score + options.length_bonus * size
    return scores


@torch.inference_mode()
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 0.6, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_lists_of_the_best_are_those_of_all_texts(frames: int, weight: float) -> None:
    for seed in range(3):
        model = network(seed)
        encoding = encoded(model, frames)
        options = SearchOptions(beam=150, n_best=150, ctc_weight=weight, length_bonus=0.1)
        expected = sorted(all_scores(model, encoding, options).items(), key=lambda one: -one[1])
        (found,) = search(model, encoding, options)
        assert len(found) == min(len(expected), 150)
        assert [h.score for h in found] == pytest.approx(
            [score for _, score in expected[:150]], abs=2e-4
        )
        assert [tuple(h.tokens) for h in found[:20]] == [text for text, _ in expected[:20]]
        assert all(len(h.token_log_probs) == len(h.tokens) for h in found)
        assert all(value <= 1e-4 for h in found for value in h.token_log_probs)


@torch.inference_mode()
def test_ctc_alone_asks_no_decoder_and_takes_external_scores() -> None:
    model = network(5)
    del model.heads["decoder"]
    encoding = encoded(model, 8, batch=3)
    options = SearchOptions(beam=6, n_best=3, ctc_weight=1.0)
    assert options.heads == {"ctc"}
    plain = search(model, encoding, options)
    for hypotheses in plain:  # the tokens' log-probabilities and that of the end are the score
        for one in hypotheses:
            assert sum(one.token_log_probs) >= one.score - 1e-3
            assert not set(one.tokens) & set(SPECIALS)
    boosted = search(model, encoding, options, [HotwordScorer(["ab ab"], TOKENIZER, 9.0)])
    phrase = TOKENIZER.encode("ab ab")
    assert [found[0].tokens for found in plain] != [found[0].tokens for found in boosted]
    assert all(bytes(phrase) in bytes(found[0].tokens) for found in boosted)


@pytest.mark.parametrize("beam", [1, 5, 31])
@pytest.mark.parametrize("weight", [0.0, 0.2, 0.8, 1.0])
def test_no_list_holds_what_is_impossible(weight: float, beam: int) -> None:
    options = SearchOptions(beam=beam, n_best=beam, ctc_weight=weight)
    for seed in range(4):
        model = network(seed)
        for hypotheses in search(model, encoded(model, 2, batch=2), options):
            assert hypotheses
            for one in hypotheses:
                assert not set(one.tokens) & set(SPECIALS)
                assert len(one.tokens) <= 2
                assert -1000 < one.score <= 0


OPTIONS = [
    SearchOptions(decoder="ctc"),
    SearchOptions(decoder="attention", beam=3),
    SearchOptions(beam=1),
    SearchOptions(beam=4, n_best=4),
    SearchOptions(beam=4, ctc_weight=1.0),
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("part", ["ctc", "decoder", "both"])
def test_a_model_that_says_no_number_is_refused(options: SearchOptions, part: str) -> None:
    model = network(0)
    encoding = encoded(model, 12, batch=2)
    broken = {"ctc", "decoder"} if part == "both" else {part}
    with torch.no_grad():
        for head in broken:
            for parameter in model.heads[head].parameters():
                parameter[..., -1:] = math.nan
    if broken & options.heads:
        with pytest.raises(CheckpointError, match="not numbers"):
            search(model, encoding, options)
    else:
        assert len(search(model, encoding, options)) == 2


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_one_utterance_that_says_no_number_is_found(options: SearchOptions) -> None:
    model = network(0)
    encoding = encoded(model, 12, batch=3)
    encoding.encoded[1, 5] = math.nan
    with pytest.raises(CheckpointError, match="not numbers"):
        search(model, encoding, options)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_search_ends_when_no_hypothesis_does(weight: float) -> None:
    model = network(1)
    with torch.no_grad():
        model.decoder.output.bias[EOS] = -1e4
    (found,) = search(model, encoded(model, 20), SearchOptions(beam=3, ctc_weight=weight))
    assert len(found) == 1 and len(found[0].tokens) <= 20
