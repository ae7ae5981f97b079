import pytest
import torch

from speechmm.models.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_and_the_mean(share):
    torch.manual_seed(0)
    size = 1_000_003  # no multiple of what one draw gives
    out = Dropout(share)(torch.ones(size))
    spread = (share * (1 - share) / size) ** 0.5
    assert abs(float((out == 0).double().mean()) - share) < 5 * spread
    assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)], rel=1e-4)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) > 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 5 * 0.25 / 400_000**0.5


def test_gradients_are_those_of_the_mask():
    torch.manual_seed(0)
    x = torch.randn(7, 5, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    torch.testing.assert_close(out, x * x.grad)


def test_nothing_happens_outside_training():
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_a_seed_repeats_it():
    x = torch.ones(100)
    torch.manual_seed(3)
    first = Dropout(0.5)(x)
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.5)(x))
