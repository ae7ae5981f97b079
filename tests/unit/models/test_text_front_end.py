"""Text stretched in time: against going through the frames one by one."""

import pytest
import torch

from speechmm.errors import ConfigError
from speechmm.models.encoder import SecondEntrance
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.text_front_end import (
    DurationStatistics,
    TextFrontEnd,
    mask_units,
    stretch,
)

CONFIG = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=32, encoder_layers=2, decoder_layers=1, front_channels=4
)


def by_frames(durations: list[float], frames: int, enc_frames: int, factor: int) -> torch.Tensor:
    """The oracle: every thousandth of a feature frame belongs to one token and one encoder frame."""
    fine, total = 1000, sum(durations)
    found = torch.zeros(enc_frames, len(durations))
    ends = torch.tensor(durations, dtype=torch.float64).cumsum(0) / total * frames
    for tick in range(frames * fine):
        moment = (tick + 0.5) / fine  # feature frame t lasts from t to t + 1
        frame = int((moment - 0.5 + factor / 2) // factor)
        if frame < enc_frames:
            found[frame, int((ends <= moment).sum())] += 1
    return found / found.sum(dim=1, keepdim=True).clamp(min=1)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(
    ("durations", "frames"),
    [([3.0, 5.0, 0.0, 9.5], 23), ([1.0], 9), ([0.0, 0.2, 40.0, 0.2, 0.0], 17), ([2.0] * 30, 11)],
)
def test_shares_are_those_of_every_moment(durations, frames, factor):
    enc_frames = -(-frames // factor)
    padded = torch.tensor([[*durations, 0.0, 0.0]])
    shares = stretch(padded, torch.tensor([frames]), enc_frames + 3, factor)
    expected = by_frames(durations, frames, enc_frames, factor)
    torch.testing.assert_close(
        shares[0, :enc_frames, : len(durations)], expected, atol=0.003, rtol=0
    )
    assert not shares[0, :, len(durations) :].any()
    torch.testing.assert_close(shares[0, :enc_frames].sum(dim=1), torch.ones(enc_frames))


def test_a_sharp_alignment_is_found_where_it_is():
    """Durations of an occupancy put every token where the occupancy has it."""
    occupancy = torch.zeros(1, 24, 3)
    for token, (first, end) in enumerate(((0, 5), (5, 17), (17, 24))):
        occupancy[0, first:end, token] = 1.0
    shares = stretch(occupancy.sum(dim=1), torch.tensor([24]), 6, 4)
    centred = occupancy[:, ::4]
    inside = (centred * shares).sum(dim=2)
    assert inside.min() > 0.5


@torch.no_grad()
def test_padding_changes_nothing():
    torch.manual_seed(0)
    model = SpeechTextModel(CONFIG, vocab_size=12, n_mels=20).eval()
    front_end = TextFrontEnd(12, 16).eval()
    tokens = torch.tensor([[4, 6, 7, 4, 0, 0, 0], [4, 5, 6, 4, 7, 8, 4]])
    durations = torch.tensor([[3.0, 9.0, 5.0, 0.0, 0, 0, 0], [1.0, 2, 3, 4, 5, 6, 7]])
    frames, lengths = torch.tensor([30, 57]), torch.tensor([8, 15])
    masked = torch.tensor([[False, True, False, False, False, False, False], [False] * 7])
    both = model.encode_frames(
        front_end(tokens, stretch(durations, frames, 15, 4), lengths, masked), lengths
    )
    alone = model.encode_frames(
        front_end(
            tokens[:1, :4],
            stretch(durations[:1, :4], frames[:1], 8, 4),
            lengths[:1],
            masked[:1, :4],
        ),
        lengths[:1],
    )
    assert both.enc_lengths.tolist() == [8, 15]
    for name in ("encoded", "middle"):
        torch.testing.assert_close(
            getattr(both, name)[0, :8], getattr(alone, name)[0], rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(
        model.ctc_log_probs(both)[0, :8], model.ctc_log_probs(alone)[0], rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_speech_enters_where_it_did():
    """The second entrance behind the audio front end is the encoder itself."""
    torch.manual_seed(0)
    model = SpeechTextModel(CONFIG, vocab_size=12, n_mels=20).eval()
    assert isinstance(model.encoder, SecondEntrance)
    features, lengths = torch.randn(2, 40, 20), torch.tensor([40, 29])
    vectors, enc_lengths = model.encoder.front_end(features, lengths)
    by_hand = model.encode_frames(vectors, enc_lengths)
    assert torch.equal(by_hand.encoded, model.encode_normalised(features, lengths).encoded)
    assert by_hand.features.shape == (2, 0, 20)  # nothing for the alignment head to see


def test_an_encoder_of_audio_alone_is_refused():
    class AudioOnly(torch.nn.Module):
        width, subsampling, norm = 16, 4, torch.nn.LayerNorm(16)

        def forward(self, inputs, lengths):
            raise NotImplementedError

    model = SpeechTextModel(CONFIG, vocab_size=12, n_mels=20, encoder=AudioOnly())
    with pytest.raises(ConfigError, match=r"model\.tasks\.text: the encoder is a AudioOnly, which"):
        model.check_second_entrance("model.tasks.text")


def test_masks_come_in_runs_and_cover_their_share():
    torch.manual_seed(0)
    lengths = torch.tensor([1000, 400])
    masked = mask_units(lengths, 1000, share=0.2, run=5)
    assert not masked[1, 400:].any()
    assert 0.14 < masked[0].float().mean() < 0.21
    edges = masked[0].int().diff().nonzero()[:, 0] + 1
    runs = [end - begin for begin, end in edges.view(-1, 2).tolist()] if len(edges) % 2 == 0 else []
    assert all(length >= 5 for length in runs)
    assert not mask_units(lengths, 1000, share=0.0, run=5).any()


def test_durations_follow_what_was_gathered():
    torch.manual_seed(0)
    statistics = DurationStatistics(8)
    tokens, lengths = torch.tensor([[4, 5, 6, 5, 4, 0]]), torch.tensor([5])
    silent = tokens == 4
    nothing = statistics.sample(tokens, lengths, silent)
    assert nothing.tolist() == [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]  # as long as one another
    heard = torch.tensor([[0.0, 10.0, 3.0, 14.0, 30.0, 99.0]])
    for _ in range(300):
        statistics.learn(statistics.summary(heard, tokens, lengths))
    drawn = torch.cat([statistics.sample(tokens, lengths, silent) for _ in range(2000)])
    assert drawn[:, 1].median() == pytest.approx(11.8, rel=0.1)  # the geometric mean of 11 and 15
    assert drawn[:, 2].median() == pytest.approx(3.0, rel=0.1)
    assert drawn[:, 1].std() > 3 * drawn[:, 2].std()
    assert drawn.min() >= 0
    assert drawn[:, 1:4].min() >= 1
    assert not drawn[:, 5].any()
    unheard = torch.full((500, 1), 7)
    other = statistics.sample(unheard, torch.ones(500, dtype=torch.int64), unheard == 4)
    assert 2 < other.median() < 20
