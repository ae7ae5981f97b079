"""tools/precisions.py: 20 steps in each precision, in miniature."""

import pytest

TINY = {
    "data.batch_seconds": 10,
    "model.network.d_model": 16,
    "model.network.heads": 2,
    "model.network.ff_dim": 16,
    "model.network.encoder_layers": 1,
    "model.network.decoder_layers": 1,
    "model.network.front_channels": 4,
    "model.network.dropout": 0.0,
    "model.optimization.learning_rate": 0.01,
    "model.optimization.warmup_steps": 5,
    "trainer.accelerator": "cpu",
}


def test_20_steps_in_16_bits_are_those_of_float32(load_tool, spoken, tmp_path) -> None:
    settings = {
        "data.train": f"[{spoken}/train.jsonl.gz]",
        "data.dev": f"[{spoken}/dev.jsonl.gz]",
        "data.tokenizer": spoken / "tokenizer.json",
        **TINY,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    load_tool("precisions").main([str(tmp_path), "--steps", "20", *flags])
    losses = {
        path.stem: [float(line) for line in path.read_text("utf-8").split()]
        for path in tmp_path.glob("*.txt")
    }
    exact = losses.pop("32-true")
    assert len(exact) == 20
    assert exact[-1] < 0.9 * exact[0]
    assert set(losses) == {"32-true, other last digits", "bf16-mixed", "bf16-true"}
    for name, values in losses.items():
        assert (values != exact) or name.startswith("32"), name
        assert values == pytest.approx(exact, rel=0.02), name
    rows = (tmp_path / "table.md").read_text("utf-8").splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["32-true", *sorted(losses)]
