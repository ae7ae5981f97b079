"""The alignment head finds boundaries from texts alone, and padding changes none of its outputs."""

import torch
import torch.nn.functional as F

from speechmm.models import forward_sum, losses
from speechmm.models.alignment_head import AlignmentHead, upsample_frames
from speechmm.text.tokenizer import SIL

MELS, VOCAB = 12, 9
LETTERS = (5, 6, 7, 8)


def spoken(batch: int, seed: int):
    """Letters of 6 to 14 frames between silences, each with a band of its own, and the truth."""
    torch.manual_seed(seed)
    rows, texts, owners = [], [], []
    for _ in range(batch):
        text, owner = [SIL], []
        owner += [0] * int(torch.randint(5, 15, ()))
        for letter in torch.randint(0, len(LETTERS), (6,)).tolist():
            text.append(LETTERS[letter])
            owner += [len(text) - 1] * int(torch.randint(6, 15, ()))
        text.append(SIL)
        owner += [len(text) - 1] * int(torch.randint(5, 15, ()))
        ids = torch.tensor(text)[torch.tensor(owner)]
        bands = F.one_hot(2 * (ids - SIL), MELS).float() * (ids != SIL)[:, None]
        rows.append(3.0 * bands + 0.3 * torch.randn(len(owner), MELS))
        texts.append(text)
        owners.append(torch.tensor(owner))
    lengths = torch.tensor([len(row) for row in rows])
    features = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return features, lengths, torch.tensor(texts), owners


def local_loss(head, features, lengths, tokens, early):
    scores, _ = forward_sum.label_scores(
        head.local_log_probs(head.local_vectors(features, lengths)), lengths, 0.5 + 0.5 * early
    )
    silent = tokens == SIL
    sizes = torch.full((len(tokens),), tokens.shape[1])
    prior = early * (
        forward_sum.silence_log_prior(features, lengths, silent)
        + forward_sum.beta_binomial_log_prior(lengths, sizes, features.shape[1], tokens.shape[1])
    )
    return forward_sum.forward_sum_loss(
        forward_sum.gather_tokens(scores, tokens), lengths, sizes, silent, log_prior=prior
    )


def test_boundaries_are_found_from_texts_alone():
    torch.manual_seed(0)
    head = AlignmentHead(8, MELS, 16, 4, VOCAB)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    for step in range(60):
        features, lengths, tokens, _ = spoken(8, seed=step)
        loss, _ = local_loss(head, features, lengths, tokens, early=max(0.0, 1 - step / 30))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, lengths, tokens, owners = spoken(8, seed=1000)
    _, occupancy = local_loss(head, features, lengths, tokens, early=0.0)
    right = [
        (occupancy[row, : len(owner)].argmax(-1) == owner).float().mean()
        for row, owner in enumerate(owners)
    ]
    assert torch.stack(right).mean() > 0.93  # 0.98 when written; the diagonal alone gives 0.6


@torch.no_grad()
def test_padding_changes_no_frame():
    torch.manual_seed(1)
    head = AlignmentHead(8, MELS, 16, 4, VOCAB)
    features, encoded = torch.randn(2, 40, MELS), torch.randn(2, 10, 8)
    features[0, 23:] = 0.0
    lengths, enc_lengths = torch.tensor([23, 40]), torch.tensor([6, 10])
    both = head.context_log_probs(head.local_vectors(features, lengths), encoded, enc_lengths)
    local = head.local_vectors(features[:1, :23], lengths[:1])
    alone = head.context_log_probs(local, encoded[:1, :6], enc_lengths[:1])
    torch.testing.assert_close(both[0, :23], alone[0], rtol=1e-4, atol=1e-5)


def test_upsampling_passes_through_the_encoder_frames_and_holds_the_last():
    encoded = torch.tensor([[[0.0], [4.0], [9.0]]])
    found = upsample_frames(encoded, torch.tensor([2]), 8, 4)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]))


def test_the_label_prior_settles_on_the_mean_posterior():
    head = AlignmentHead(8, MELS, 16, 4, VOCAB)
    marginal = torch.arange(1.0, VOCAB + 1) / sum(range(1, VOCAB + 1))
    for _ in range(3):
        head.update_prior(marginal)
    torch.testing.assert_close(head.label_prior, marginal)


def test_views_that_agree_cost_nothing_and_teachers_get_no_gradient():
    log_probs = torch.randn(1, 5, 4).log_softmax(-1)
    lengths, sizes = torch.tensor([3, 3]), torch.tensor([2, 2])
    same = losses.consistency_loss(torch.cat([log_probs, log_probs]), lengths, sizes)
    assert abs(same.item()) < 1e-6
    one = log_probs.clone().requires_grad_()
    two = torch.randn(1, 5, 4).log_softmax(-1)
    loss = losses.consistency_loss(torch.cat([one, two]), lengths, sizes)
    exact = sum(
        F.kl_div(a[:, :3], b[:, :3], reduction="sum", log_target=True)
        for a, b in ((log_probs, two), (two, log_probs))
    )
    torch.testing.assert_close(loss.detach(), exact / 4)
    (gradient,) = torch.autograd.grad(loss, one)
    expected = torch.zeros_like(gradient)
    expected[:, :3] = -two[:, :3].exp() / 4
    torch.testing.assert_close(gradient, expected)
