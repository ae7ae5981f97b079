"""``speechmm fit`` with ``kind: lm``: texts in, a bundle that a search can listen to out."""

import math

import pytest
import torch
import yaml

from speechmm.models.bundle import load_bundle, load_language_model
from speechmm.models.language_model import LanguageModel, LanguageModelConfig
from speechmm.text.tokenizer import EOS
from speechmm.training.callbacks.metrics import read_metrics
from speechmm.training.lm_data import TextBatch, _TextSampler
from speechmm.training.lm_module import LanguageModule

SENTENCES = ["go home", "go now", "a word now", "home"] * 8


@pytest.fixture
def texts(shop):
    path = shop.root / "sentences.txt"
    path.write_text("\n".join(SENTENCES) + "\n\n  \n", encoding="utf-8")
    return path


def config(shop, name, train, dev, **trainer):
    settings = {
        "kind": "lm",
        "data": {
            "train": [str(train)],
            "dev": [str(dev)],
            "tokenizer": str(shop.tokenizer),
            "batch_tokens": 60,
        },
        "model": {
            "network": {"d_model": 16, "heads": 2, "ff_dim": 32, "layers": 1, "dropout": 0.0},
            "optimization": {"learning_rate": 0.01, "warmup_steps": 5, "ema_decay": 0.9},
        },
        "trainer": {
            "accelerator": "cpu",
            "default_root_dir": str(shop.root / "runs" / name),
            **trainer,
        },
    }
    path = shop.root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return path


def test_a_language_model_learns_its_texts(shop, texts) -> None:
    outcome = shop.fit(config(shop, "learns", texts, texts, max_epochs=12))
    assert (outcome.code, outcome.out) == (0, "")
    assert "dev perplexity" in outcome.err
    folder = shop.root / "runs" / "learns"
    assert (folder / "curves.png").is_file()
    bundle = load_language_model(folder / "bundle")
    found = read_metrics(folder / "metrics.csv")["val/perplexity"]
    ids = [bundle.tokenizer.encode(sentence) for sentence in SENTENCES]
    nats = 0.0
    with torch.inference_mode():
        for one in ids:
            logits = bundle.model(torch.tensor([one]))[0].log_softmax(-1)
            nats -= sum(float(row[i]) for row, i in zip(logits, [*one, EOS], strict=True))
    perplexity = math.exp(nats / sum(len(one) + 1 for one in ids))
    assert perplexity == pytest.approx(min(value for _, value in found), rel=1e-3)
    assert perplexity < 2.5  # four sentences, and thirteen signs: uniform would be 13
    again = shop.fit(config(shop, "learns", texts, texts, max_epochs=12))
    assert "trained already" in again.err


def test_perplexity_of_weights_in_16_bits_is_summed_in_float32() -> None:
    torch.manual_seed(0)
    network = LanguageModelConfig(d_model=16, heads=2, ff_dim=16, layers=1, dropout=0.0)
    module = LanguageModule(network)
    module.network = LanguageModel(network, vocab_size=500).to(torch.bfloat16).eval()
    batch = TextBatch(torch.randint(3, 500, (20, 12)), torch.full((20,), 12))
    with torch.inference_mode():
        module.validation_step(batch, 0)
        log_probs = module.network(batch.tokens).float().log_softmax(dim=-1)
    targets = torch.cat([batch.tokens, torch.full((20, 1), EOS)], dim=1)
    expected = -log_probs.gather(2, targets[:, :, None]).sum()
    assert module._nats == pytest.approx(float(expected), rel=1e-5)


def test_manifests_are_texts_too_and_bad_lines_are_named(shop) -> None:
    train = shop.root / "latin.txt"
    train.write_bytes("go home\ncafé\n".encode("latin-1"))
    dev = shop.corpus("lm-dev", 2)
    outcome = shop.fit(config(shop, "mixed-texts", train, dev, max_epochs=1))
    assert outcome.code == 3
    assert list(outcome.skipped) == [f"{train}:2"]


def test_mistakes(shop, texts) -> None:
    missing = config(shop, "wrong", shop.root / "none.txt", texts, max_epochs=1)
    assert "none.txt: cannot be read" in shop.fit(missing).mistake
    good = config(shop, "wrong", texts, texts, max_epochs=1)
    assert "batch_tokens is 0" in shop.fit(good, "--data.batch_tokens", 0).mistake
    assert "batch_seconds" in shop.fit(good, "--data.batch_seconds", 3).mistake
    assert "kind" in shop.fit(good, "--kind", "llm").mistake


def test_a_bundle_of_the_other_kind_is_refused(shop, texts) -> None:
    assert shop.fit(config(shop, "kinds", texts, texts, max_epochs=1)).code == 0
    from speechmm.errors import CheckpointError

    with pytest.raises(
        CheckpointError, match="is a language model, which transcribe reads with --lm"
    ):
        load_bundle(shop.root / "runs" / "kinds" / "bundle")


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_texts(world_size: int) -> None:
    lengths = [1 + index % 9 for index in range(50)]
    settings = {"batch_tokens": 20, "shuffle": True, "seed": 1, "world_size": world_size}
    samplers = [_TextSampler(lengths, rank=rank, **settings) for rank in range(world_size)]
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shares = [list(sampler) for sampler in samplers]
        assert len({len(share) for share in shares}) == 1
        seen = [index for share in shares for batch in share for index in batch]
        assert len(seen) == len(set(seen))
        assert len(seen) >= 50 - 20 * (world_size - 1)
        for share in shares:
            for batch in share:
                assert len(batch) * (1 + max(lengths[index] for index in batch)) <= 20
