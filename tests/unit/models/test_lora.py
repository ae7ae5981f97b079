"""Low-rank updates begin as nothing, are the sum that the paper writes, and merge into the weights."""

import copy

import pytest
import torch
from torch import nn

from speechmm.errors import ConfigError
from speechmm.models.lora import LoraConfig, add_lora, merged, updates
from speechmm.models.transformer import TransformerEncoder


def network() -> TransformerEncoder:
    torch.manual_seed(0)
    return TransformerEncoder(d_model=8, heads=2, ff_dim=16, layers=2, conv_kernel=3, dropout=0.0)


def run(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    x, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    out: torch.Tensor = model(x, mask)[0]
    return out


def test_updates_begin_as_nothing_and_merge_as_their_product() -> None:
    plain = network()
    tuned = copy.deepcopy(plain)
    size = add_lora(tuned, LoraConfig(rank=3, alpha=6.0))
    names = dict(updates(tuned))
    assert set(names) == {
        f"layers.{layer}.{part}.weight"
        for layer in range(2)
        for part in (
            "attention.query_key_value",
            "attention.output",
            "feed_forward.up",
            "feed_forward.down",
        )
    }
    assert size == sum(
        3 * (rows + columns) for rows, columns in [(24, 8), (8, 8), (16, 8), (8, 16)] * 2
    )
    torch.testing.assert_close(run(tuned), run(plain), rtol=0, atol=0)
    with torch.no_grad():
        for update in names.values():
            update.up.normal_()
    whole = merged(tuned)
    assert whole.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(run(whole), run(tuned))
    for name, update in names.items():
        expected = plain.get_parameter(name) + 2.0 * update.up @ update.down
        torch.testing.assert_close(whole.get_parameter(name), expected)
    assert dict(updates(tuned)) and not dict(updates(whole))
    assert merged(plain) is plain


def test_targets_are_names_of_layers_or_of_what_holds_them() -> None:
    for targets, count in ((["layers"], 12), (["up", "gate"], 4), (["feed_*"], 4)):
        model = network()
        add_lora(model, LoraConfig(rank=1, targets=targets))
        assert len(dict(updates(model))) == count, targets
    with pytest.raises(ConfigError, match="names no linear layer"):
        add_lora(network(), LoraConfig(rank=1, targets=["nothing"]))
    for values in ({"rank": -1}, {"rank": 2, "alpha": 0.0}):
        with pytest.raises(ConfigError, match="expected no negative rank"):
            LoraConfig(**values)


def test_a_rank_above_a_side_is_that_side_on_the_scale_asked_for() -> None:
    model = network()
    add_lora(model, LoraConfig(rank=100, alpha=50.0, targets=["down"]))
    for update in dict(updates(model)).values():
        assert update.down.shape == (8, 16)
        assert update.scale == 0.5
