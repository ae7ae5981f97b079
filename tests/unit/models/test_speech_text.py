import dataclasses
import itertools
import math

import pytest
import torch

from speechmm.errors import ConfigError
from speechmm.inference.recognition.ctc_prefix import CtcPrefixScorer
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models import forward_sum, kv_cache
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.transformer import merge_frames

TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=32, encoder_layers=2, decoder_layers=1, front_channels=4
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpeechTextModel(TINY, vocab_size=12, n_mels=20).eval()


def speech(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(len(lengths), max(lengths), 20), torch.tensor(lengths)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder_layers": 4, "middle_stride": 2},
        {"utterance_cmn": True},
        {"attention_window": 3},
    ],
    ids=["plain", "u-net", "cmn", "window"],
)
@torch.no_grad()
def test_padding_changes_no_output(changes):
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, **changes)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20).eval()
    features, lengths = speech(57, 90)
    both = model.encode_speech(features, lengths)
    alone = model.encode_speech(features[:1, :57], lengths[:1])
    frames = int(alone.enc_lengths[0])
    assert frames == math.ceil(57 / 4)
    torch.testing.assert_close(
        model.ctc_log_probs(both)[0, :frames], model.ctc_log_probs(alone)[0], rtol=1e-4, atol=1e-4
    )
    tokens = torch.tensor([[4, 5, 6, 4, 0], [4, 5, 6, 7, 4]])
    scores = model.align_scores(both, tokens)
    single = model.align_scores(alone, tokens[:1, :4])
    torch.testing.assert_close(scores[0, :57, :4], single[0], rtol=1e-4, atol=1e-4)


def test_merged_frames_are_means_of_what_is_there():
    x = torch.arange(10.0).view(1, 5, 2)
    merged, mask = merge_frames(x, torch.tensor([[True, True, True, False, False]]), 2)
    assert merged[0, :2].tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert mask.tolist() == [[True, True, False]]


@torch.no_grad()
def test_the_level_of_a_channel_leaves_no_trace():
    config = dataclasses.replace(TINY, utterance_cmn=True)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20).eval()
    features, lengths = speech(57, 90)
    shifted = features + torch.randn(2, 1, 20)
    torch.testing.assert_close(
        model.encode_speech(shifted, lengths).encoded,
        model.encode_speech(features, lengths).encoded,
        rtol=1e-4,
        atol=1e-4,
    )


@torch.no_grad()
def test_attention_reaches_so_far_and_no_further():
    config = dataclasses.replace(
        TINY, attention_window=3, conv_kernel=0
    )  # two layers see six frames
    torch.manual_seed(0)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20).eval()
    encoder, mask = model.encoder.stack, torch.ones(1, 30, dtype=torch.bool)
    x = torch.randn(1, 30, 16)
    other = x.clone()
    other[0, 10] = torch.randn(16)
    moved = (encoder(x, mask)[0] - encoder(other, mask)[0]).abs().amax(dim=-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(4, 17))


@pytest.mark.parametrize("stride", [1, 2])
def test_without_gradients_the_values_are_the_same_and_the_input_stays(stride):
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, encoder_layers=4, middle_stride=stride)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20).eval()
    features, lengths = speech(57, 90)
    tokens = torch.tensor([[5, 6, 7], [8, 9, 10]])
    before = features.clone()
    expected = model.encode_speech(features, lengths)
    logits = model.decode(tokens, expected).logits
    with torch.no_grad():  # where results take the place of what they were made of
        found = model.encode_speech(features, lengths)
        torch.testing.assert_close(model.decode(tokens, found).logits, logits)
    torch.testing.assert_close(found.encoded, expected.encoded)
    torch.testing.assert_close(found.middle, expected.middle)
    assert torch.equal(features, before)


@torch.no_grad()
def test_in_half_precision_sums_over_the_layers_stay_in_full(model):
    features, lengths = speech(57, 90)
    expected = model.encode_speech(features, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.encode_speech(features, lengths)
    assert found.middle.dtype == torch.float32
    torch.testing.assert_close(found.encoded, expected.encoded, rtol=0.1, atol=0.1)


def test_half_way_ctc_reaches_the_lower_layers_only():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, encoder_layers=4, middle_stride=2)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20)
    encoding = model.encode_speech(*speech(57, 90))
    model.ctc_log_probs(encoding, middle=True).square().sum().backward()
    reached = [
        layer.feed_forward.up.weight.grad is not None for layer in model.encoder.stack.layers
    ]
    assert reached == [True, True, False, False]


@torch.no_grad()
def test_cached_decoding_equals_full_recomputation(model):
    encoding = model.encode_speech(*speech(57, 90))
    tokens = torch.tensor([[5, 6, 7], [8, 9, 10]])
    full = model.decode(tokens, encoding).logits
    cache = model.decode_init(encoding)
    steps = [model.decode_step(None, cache)]
    steps += [model.decode_step(tokens[:, i], cache) for i in range(3)]
    torch.testing.assert_close(torch.stack(steps, dim=1), full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [3, 40])
@torch.no_grad()
def test_reordered_hypotheses_equal_full_recomputation(model, steps, monkeypatch):
    monkeypatch.setattr(kv_cache, "FIRST_CAPACITY", 8)
    generator = torch.Generator().manual_seed(steps)
    encoding = model.encode_speech(*speech(57, 90, 33))
    cache = model.decode_init(encoding)
    model.decode_step(None, cache)
    batch, beams, alive = 3, 1, [0, 1, 2]
    texts = torch.zeros(3, 0, dtype=torch.long)
    for step in range(steps):
        if step == steps // 2:  # the second utterance has ended
            batch, alive = 2, [0, 2]
            texts = texts.view(3, beams, -1)[alive].flatten(0, 1)
            cache.keep_utterances(torch.tensor(alive))
        picked = torch.randint(beams, (batch, 4), generator=generator)
        cache.reorder((torch.arange(batch)[:, None] * beams + picked).flatten())
        parents = (torch.arange(batch)[:, None] * beams + picked).flatten()
        tokens = torch.randint(4, 12, (batch * 4,), generator=generator)
        texts = torch.cat([texts[parents], tokens[:, None]], dim=1)
        beams = 4
        logits = model.decode_step(tokens, cache)
    for place, utterance in enumerate(alive):
        rows = slice(place * beams, (place + 1) * beams)
        same = encoding.select(torch.full((beams,), utterance))
        full = model.decode(texts[rows], same).logits[:, -1]
        torch.testing.assert_close(logits[rows], full, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_no_hypothesis_descends_from_is_forgotten(model):
    cache = model.decode_init(model.encode_speech(*speech(57)))
    model.decode_step(None, cache)
    cache.reorder(torch.zeros(10, dtype=torch.long))
    for _ in range(200):  # the best of ten is followed by all ten, every time
        model.decode_step(torch.full((10,), 5), cache)
        cache.reorder(torch.full((10,), 3))
    assert cache.tree is not None
    assert 200 < cache.tree.used < 500


@torch.no_grad()
def test_returned_attention_is_what_the_first_head_mixes_by(model):
    attention = model.decoder.stack.layers[0].cross_attention
    attention.output = torch.nn.Identity()
    torch.manual_seed(2)
    memory, queries = torch.randn(2, 9, 16), torch.randn(2, 4, 16)
    keys, values = attention.project_memory(memory)
    bias = torch.zeros(2, 1, 1, 9)
    bias[1, :, :, 5:] = -math.inf
    mixed = attention(queries, keys, values, bias)
    first = attention.first_head_log_probs(queries, memory, bias).exp()
    torch.testing.assert_close(first @ values[:, 0], mixed[:, :, :8])
    assert not first[1, :, 5:].any()


@torch.no_grad()
def test_returning_attention_changes_no_logits(model):
    encoding = model.encode_speech(*speech(57, 90))
    tokens = torch.tensor([[5, 6, 7], [8, 9, 10]])
    alone = model.decode(tokens, encoding)
    both = model.decode(tokens, encoding, with_attention=True)
    assert torch.equal(both.logits, alone.logits)
    assert alone.log_attention is None
    assert both.log_attention.shape == (2, 4, encoding.encoded.shape[1])


def all_paths(frames: int, skippable: list[bool]) -> list[tuple[int, ...]]:
    """Every monotonic path, by trying them all."""
    tokens = len(skippable)
    found = []
    for path in itertools.combinations_with_replacement(range(tokens), frames):
        steps = [path[0] + 1, *(b - a for a, b in itertools.pairwise(path)), tokens - path[-1]]
        points = [-1, *path, tokens]
        left_out = [a + 1 for a, step in zip(points, steps, strict=False) if step == 2]
        if max(steps) <= 2 and all(skippable[token] for token in left_out):
            found.append(path)
    return found


@pytest.mark.parametrize(
    "skippable", [[False, False, False], [True, False, True, False, True], [True], [False, True]]
)
def test_forward_backward_equals_the_sum_over_all_alignments(skippable):
    torch.manual_seed(2)
    frames, tokens = 6, len(skippable)
    scores = torch.randn(2, frames + 1, tokens + 1, requires_grad=True)
    padded = torch.tensor([[*skippable, True]] * 2)
    lengths, token_lengths = torch.tensor([frames] * 2), torch.tensor([tokens] * 2)
    totals, occupancy = forward_sum.forward_backward(scores, lengths, token_lengths, padded)
    paths = all_paths(frames, skippable)
    for item in range(2):
        sums = torch.stack(
            [sum(scores[item, t, token] for t, token in enumerate(path)) for path in paths]
        )
        exact = torch.logsumexp(sums, 0)
        torch.testing.assert_close(totals[item], exact, rtol=1e-5, atol=1e-5)
        (gradient,) = torch.autograd.grad(exact, scores, retain_graph=True)
        torch.testing.assert_close(occupancy[item], gradient[item], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(2.0 * totals.sum(), scores)
    torch.testing.assert_close(gradient, 2.0 * occupancy)


def test_texts_that_do_not_fit_count_nothing():
    scores = torch.randn(2, 4, 5, requires_grad=True)
    loss, occupancy = forward_sum.forward_sum_loss(
        scores, torch.tensor([4, 4]), torch.tensor([5, 3]), torch.zeros(2, 5, dtype=torch.bool)
    )
    loss.backward()
    assert math.isfinite(loss.item())
    assert float(occupancy[0].abs().sum()) == 0.0
    assert float(scores.grad[0].abs().sum()) == 0.0


def test_sums_survive_scores_that_differ_by_thousands():
    frames, tokens = 400, 60
    scores = torch.zeros(1, frames, tokens)
    scores[:, :, 0] = 30.0  # staying in the first token looks far better than the text allows
    totals, occupancy = forward_sum.forward_backward(
        scores, torch.tensor([frames]), torch.tensor([tokens]), torch.zeros(1, tokens).bool()
    )
    assert float(totals) > 30.0 * (frames - tokens)
    torch.testing.assert_close(occupancy.sum(-1), torch.ones(1, frames), rtol=1e-3, atol=1e-3)


def test_the_prior_is_a_distribution_over_tokens():
    prior = forward_sum.beta_binomial_log_prior(torch.tensor([9]), torch.tensor([4]), 9, 4)
    torch.testing.assert_close(prior.exp().sum(-1), torch.ones(1, 9), rtol=1e-3, atol=1e-3)


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(key for key, _ in itertools.groupby(path) if key != 0)


def test_ctc_prefix_scores_equal_the_sum_over_all_paths():
    torch.manual_seed(3)
    frames, vocab, eos = 5, 4, 3
    log_probs = torch.randn(1, frames, vocab).log_softmax(-1)
    mask = torch.ones(1, frames, dtype=torch.bool)
    scorer = CtcPrefixScorer(log_probs, mask, blank=0, eos=eos)
    spelled: dict[tuple[int, ...], list[float]] = {}
    for path in itertools.product(range(vocab), repeat=frames):
        weight = float(sum(log_probs[0, t, token] for t, token in enumerate(path)))
        spelled.setdefault(collapse(path), []).append(weight)

    def exact(prefix: tuple[int, ...], *, complete: bool) -> float:
        end = None if complete else len(prefix)
        sums = [w for text, ws in spelled.items() if text[:end] == prefix for w in ws]
        return float(torch.logsumexp(torch.tensor(sums), 0))

    state = scorer.start(1)
    prefixes: list[tuple[int, ...]] = [()]
    tokens = torch.tensor([1, 2, eos])
    for parents, chosen in [([0, 0], [1, 2]), ([0, 1, 0], [1, 1, 2]), ([2, 1], [1, 2])]:
        scores = scorer.score(state, tokens.expand(1, len(prefixes), -1))[0]
        for prefix, (one, two, end) in zip(prefixes, scores.tolist(), strict=True):
            assert one == pytest.approx(exact((*prefix, 1), complete=False), abs=1e-3)
            assert two == pytest.approx(exact((*prefix, 2), complete=False), abs=1e-3)
            assert end == pytest.approx(exact(prefix, complete=True), abs=1e-3)
        prefixes = [(*prefixes[row], token) for row, token in zip(parents, chosen, strict=True)]
        state = scorer.extend(state, torch.tensor([parents]), torch.tensor([chosen]))


@pytest.mark.parametrize("decoder", ["ctc", "attention", "joint"])
def test_a_batch_gives_what_each_utterance_alone_gives(model, decoder):
    features, lengths = speech(57, 90, 33)
    beam = 1 if decoder == "ctc" else 3
    options = SearchOptions(decoder=decoder, beam=beam)
    together = search(model, model.encode_speech(features, lengths), options)
    for row in range(3):
        length = int(lengths[row])
        encoding = model.encode_speech(features[row : row + 1, :length], lengths[row : row + 1])
        (alone,) = search(model, encoding, options)
        assert together[row][0].tokens == alone[0].tokens
        assert together[row][0].score == pytest.approx(alone[0].score, abs=1e-2)


def test_wrong_settings_name_the_choices():
    with pytest.raises(ConfigError, match="joint"):
        SearchOptions(decoder="best")
    with pytest.raises(ConfigError, match="2, 4 or 8"):
        SpeechTextConfig(subsampling=3)
