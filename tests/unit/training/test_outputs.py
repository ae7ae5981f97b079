"""A training of a part: the rest is neither moved nor read, and the bundle says so."""

import csv

import pytest
import torch

from speechmm.errors import ConfigError
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import load_bundle
from speechmm.models.speech_text import OUTPUTS, SpeechTextModel
from speechmm.training.tasks.losses import ObjectivesConfig

PARTS = {
    ("ctc",): {"align_weight": 0.0, "ctc_weight": 1.0},
    ("decoder",): {"align_weight": 0.0, "ctc_weight": 0.0},
    ("align",): {"asr_weight": 0.0},
    ("ctc", "decoder"): {"align_weight": 0.0},
    ("ctc", "align"): {"ctc_weight": 1.0},
}


@pytest.mark.parametrize("outputs", PARTS, ids="-".join)
def test_one_part_alone(shop, outputs: tuple[str, ...]) -> None:
    name = "-".join(outputs)
    train, dev = shop.corpus(f"{name}-train", 4), shop.corpus(f"{name}-dev", 2)
    config = shop.config(name, train, dev)
    flags = [f"--model.objectives.{key}={value}" for key, value in PARTS[outputs].items()]
    fitted = shop.fit(config, *flags)
    assert fitted.code == 0, fitted.err
    run = shop.root / "runs" / name
    bundle = load_bundle(run / "bundle")
    assert bundle.outputs == set(outputs)

    with (run / "metrics.csv").open(newline="") as stream:
        named = {key for row in csv.DictReader(stream) for key, value in row.items() if value}
    assert ("val/wer" in named) == (outputs != ("align",))
    assert ("train/loss_ctc" in named) == ("ctc" in outputs)
    assert ("train/loss_attention" in named) == ("decoder" in outputs)
    assert ("train/loss_forward_sum" in named) == ("align" in outputs)

    torch.manual_seed(0)  # the seed of the training
    start = SpeechTextModel(
        bundle.model.config,
        vocab_size=bundle.model.vocab_size,
        n_mels=bundle.model.n_mels,
        align_vocab_size=bundle.model.align_vocab_size,
    )
    for output in OUTPUTS:
        pairs = zip(start.parts_of(output), bundle.model.parts_of(output), strict=True)
        moved = any(
            not torch.equal(before, after)
            for one, other in pairs
            for before, after in zip(one.parameters(), other.parameters(), strict=True)
        )
        assert moved == (output in outputs), output

    readers = {
        ("decoder",): lambda: Transcriber(bundle, options=SearchOptions(decoder="attention")),
        ("ctc",): lambda: Transcriber(bundle, options=SearchOptions(decoder="ctc")),
        ("ctc", "decoder"): lambda: Transcriber(bundle),
        ("align",): lambda: Aligner(bundle),
    }
    for needed, reader in readers.items():
        if set(needed) <= set(outputs):
            reader()
        else:
            with pytest.raises(ConfigError, match="its training taught"):
                reader()
    if "ctc" in outputs:
        Aligner(bundle, kind="ctc")


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_weight": 0.3, "align_weight": 0.0},
        {"guidance_weight": 0.3, "asr_weight": 0.0},
        {"guidance_weight": 0.3, "ctc_weight": 1.0},
        {"consistency_weight": 0.2, "ctc_weight": 0.0},
        {"consistency_weight": 0.2, "asr_weight": 0.0},
    ],
)
def test_means_without_what_they_work_on_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="to be trained"):
        ObjectivesConfig(**settings)
