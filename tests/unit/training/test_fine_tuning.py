"""Trainings that start from a bundle: what is taken, frozen, thawed, and how fast what learns."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import speechmm
from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import CheckpointError, ConfigError
from speechmm.models.adapter import load_adapted, save_adapter
from speechmm.models.bundle import load_bundle, save_bundle
from speechmm.models.bundle_config import TrainingInfo
from speechmm.models.lora import LoraConfig, merged, updates
from speechmm.models.pretrained.configs import Wav2Vec2Config, WhisperConfig
from speechmm.models.pretrained.description import EncoderInfo, build
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import SPECIALS
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.freezing import Freezing, start_lora
from speechmm.training.optimization import OptimizationConfig, learning_rates, make_optimizer
from speechmm.training.precision import HalfWeights
from speechmm.training.starting_weights import take_weights

pytestmark = pytest.mark.usefixtures("no_picture")

CONFIG = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=16, encoder_layers=3, decoder_layers=1, front_channels=4
)
FEATURES = LogMelConfig(n_mels=20)
WHISPER = WhisperConfig(
    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, num_mel_bins=20
)
WAV2VEC2 = Wav2Vec2Config(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)
GERMAN, ENGLISH = ["über bär"], ["a bear over"]


def new_model(texts: list[str], seed: int = 0, config: SpeechTextConfig = CONFIG):
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(texts, kind="char")
    size = tokenizer.vocab_size
    model = SpeechTextModel(config, vocab_size=size, n_mels=20, heads=("ctc", "decoder", "align"))
    return model, tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A bundle with random weights and statistics, which knows English letters."""
    model, tokenizer = new_model(ENGLISH, seed=1)
    model.set_cmvn(torch.randn(20), torch.rand(20) + 0.5)
    model.heads["align"].label_prior.copy_(torch.rand(tokenizer.vocab_size))
    save_bundle(tmp_path / "base", model, tokenizer, FEATURES)
    return tmp_path / "base"


def test_of_the_same_tokenizer_all_is_taken(base: Path) -> None:
    model, tokenizer = new_model(ENGLISH)
    found = take_weights(model, base, tokenizer, FEATURES, keep_cmvn=False)
    expected = load_file(base / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert (found.new, found.left, found.by_row) == ([], [], [])
    (line,) = found.lines()
    assert line.startswith(f"init_from {base}: {len(expected)} weights taken")


def test_of_another_tokenizer_rows_of_shared_pieces_are_taken(base: Path) -> None:
    model, tokenizer = new_model(GERMAN)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = take_weights(model, base, tokenizer, FEATURES, keep_cmvn=False)
    after, theirs = model.state_dict(), load_file(base / "model.safetensors")
    old = load_bundle(base).tokenizer.pieces
    for name in (
        "heads.ctc.weight",
        "heads.ctc.bias",
        "heads.decoder.embedding.weight",
        "heads.decoder.output.weight",
        "heads.align.local_out.weight",
        "heads.align.context_out.bias",
    ):
        for row, piece in enumerate(tokenizer.pieces):
            expected = theirs[name][old.index(piece)] if piece in old else before[name][row]
            assert torch.equal(after[name][row], expected), (name, piece)
    shared = [piece for piece in tokenizer.pieces if piece in old]
    assert set(shared) == {*SPECIALS, "▁", "b", "e", "r"}
    assert found.shared_pieces == len(shared)
    assert set(found.new_pieces) == {"ü", "ä"}
    # how often a label is heard is not the same in another text
    assert torch.equal(after["heads.align.label_prior"], before["heads.align.label_prior"])
    assert torch.equal(after["encoder.stack.norm.weight"], theirs["encoder.stack.norm.weight"])
    said = "\n".join(found.lines())
    assert f"rows of {len(shared)} pieces taken; new: " in said
    assert "made new: heads.align (2)" in said


def test_statistics_are_the_bundles_unless_others_are_given(base: Path) -> None:
    theirs = load_file(base / "model.safetensors")
    for keep_cmvn in (False, True):
        model, tokenizer = new_model(ENGLISH)
        found = take_weights(model, base, tokenizer, FEATURES, keep_cmvn=keep_cmvn)
        assert torch.equal(model.cmvn_mean, theirs["cmvn_mean"]) is not keep_cmvn
        assert (found.new, found.left) == ([], [])


def test_more_layers_are_new_and_other_dimensions_refused(base: Path) -> None:
    deeper = SpeechTextConfig(**{**vars(CONFIG), "encoder_layers": 4, "decoder_layers": 2})
    model, tokenizer = new_model(ENGLISH, config=deeper)
    found = take_weights(model, base, tokenizer, FEATURES, keep_cmvn=False)
    assert found.new
    assert all("layers.3." in name or "decoder.stack.layers.1." in name for name in found.new)
    wider = SpeechTextConfig(**{**vars(CONFIG), "d_model": 24})
    model, tokenizer = new_model(ENGLISH, config=wider)
    with pytest.raises(ConfigError, match="Leave model"):
        take_weights(model, base, tokenizer, FEATURES, keep_cmvn=False)
    model, tokenizer = new_model(ENGLISH)
    with pytest.raises(ConfigError, match="Leave data"):
        take_weights(model, base, tokenizer, LogMelConfig(n_mels=20, f_min=50.0), keep_cmvn=False)


def test_learning_rates_fall_with_depth() -> None:
    model, _ = new_model(ENGLISH)
    settings = OptimizationConfig(learning_rate=1.0, encoder_rate=0.5, layer_decay=0.8)
    rates = learning_rates(model, settings)
    assert rates["heads.ctc.weight"] == 1.0
    assert rates["encoder.stack.norm.weight"] == 0.5
    for layer, below in ((2, 0), (1, 1), (0, 2)):
        names = [name for name in rates if name.startswith(f"encoder.stack.layers.{layer}.")]
        assert names
        assert [rates[name] for name in names] == [pytest.approx(0.5 * 0.8**below)] * len(names)
    before = [name for name in rates if name.startswith("encoder.front_end.")]
    assert "encoder.front_end.layers.1.weight" in before
    assert [rates[name] for name in before] == [pytest.approx(0.5 * 0.8**3)] * len(before)
    for kind in ("adamw", "soap"):
        optimizer = make_optimizer(
            model, OptimizationConfig(optimizer=kind, encoder_rate=0.5, layer_decay=0.8)
        )
        by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, weight in model.named_parameters():
            assert by_id[id(weight)] == pytest.approx(2e-3 * rates[name])


@pytest.mark.parametrize(
    ("info", "stack", "last"),
    [
        (EncoderInfo(kind="whisper", config=WHISPER), "encoder.", "encoder.layer_norm."),
        (EncoderInfo(kind="wav2vec2", config=WAV2VEC2), "encoder.encoder.", None),
        (
            EncoderInfo(kind="wav2vec2", config=WAV2VEC2, own_layers=True),
            "encoder.lower.encoder.",
            None,
        ),
    ],
)
def test_what_is_before_the_layers_of_others_learns_slowest(
    info: EncoderInfo, stack: str, last: str | None
) -> None:
    config = dataclasses.replace(CONFIG, encoder_layers=1)
    model = SpeechTextModel(config, vocab_size=9, n_mels=20, encoder=build(info, config))
    rates = learning_rates(model, OptimizationConfig(learning_rate=1.0, layer_decay=0.8))
    known = {f"{stack}layers.0.": 0.8, f"{stack}layers.1.": 1.0}
    known |= {} if last is None else {last: 1.0}
    known |= {"heads.": 1.0, "encoder.bridge.": 1.0, "encoder.stack.": 1.0}
    for name, rate in rates.items():
        expected = [value for start, value in known.items() if name.startswith(start)] or [0.8**2]
        assert rate == pytest.approx(expected[0]), name


@pytest.mark.parametrize(
    ("patterns", "thaw_at", "message"),
    [
        (["encoder.nothing"], [], "names no weight; expected a name or a pattern of encoder.front_end"),
        (["encoder", "heads.ctc"], [1, 2, 3], "3 steps .1, 2, 3. for 2 patterns"),
        (["encoder"], [-1], "from 0 on"),
        ([], [5], "for 0 patterns"),
    ],
)  # fmt: skip
def test_what_cannot_be_frozen_is_refused(patterns, thaw_at, message: str) -> None:
    model, _ = new_model(ENGLISH)
    with pytest.raises(ConfigError, match=message):
        Freezing(model, patterns, thaw_at)


def test_a_part_that_thaws_learns_from_then_on_whatever_wants_gradients() -> None:
    """Several processes want gradients of what is frozen for a time, too."""
    model, _ = new_model(ENGLISH)
    freezing = Freezing(model, ["heads.align", "heads.ctc"], [5, 0])
    head = model.alignment_head
    assert all(weight.requires_grad for weight in head.parameters())
    assert [freezing.learns(head, step) for step in (0, 4, 5)] == [False, False, True]
    assert not freezing.learns(model.heads["ctc"], 10)
    assert freezing.learns(model.encoder, 0)


def test_freezing_by_patterns_and_thawing_in_steps() -> None:
    model, _ = new_model(ENGLISH)
    freezing = Freezing(model, ["encoder", "encoder.stack.layers.[12]", "heads.ctc"], [0, 5, 2])
    learns = dict(model.named_parameters())
    front = "encoder.front_end.norm.weight"
    top = next(name for name in learns if name.startswith("encoder.stack.layers.2."))
    seen = {}
    for step in range(7):
        freezing.begin_step(step)
        seen[step] = [learns[name].requires_grad for name in (front, top, "heads.ctc.bias")]
    assert [front for front, _, _ in seen.values()] == [False] * 7
    assert [top for _, top, _ in seen.values()] == [False] * 5 + [True] * 2
    assert [ctc for *_, ctc in seen.values()] == [False] * 2 + [True] * 5
    for weight in learns.values():
        weight.grad = torch.ones_like(weight)
    freezing.drop_gradients(3)
    assert learns[top].grad is None
    assert learns["heads.ctc.bias"].grad is not None
    assert "for good" in freezing.describe()
    assert "until step 5" in freezing.describe()


class Study:
    """A bundle, and trainings that start from it."""

    def __init__(self, shop) -> None:
        self.shop = shop
        self.train, self.dev = shop.corpus("train", 10), shop.corpus("dev", 2)
        assert shop.fit(shop.config("first", self.train, self.dev)).code == 0
        self.first = shop.root / "runs" / "first" / "bundle"

    def config(self, name: str, **model: Any) -> Path:
        """No dimensions: they are those of the bundle."""
        path = self.shop.config(name, self.train, self.dev, model=model, trainer={"max_epochs": 3})
        settings = yaml.safe_load(path.read_text("utf-8"))
        del settings["model"]["network"]
        settings["init_from"] = str(self.first)
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return path

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.shop.root / "runs" / name / "bundle" / "model.safetensors")

    def metrics(self, name: str) -> list[dict[str, str]]:
        lines = (self.shop.root / "runs" / name / "metrics.csv").read_text().splitlines()
        return list(csv.DictReader(lines))

    def state(self, name: str) -> dict[str, Any]:
        path = self.shop.root / "runs" / name / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def study(shop) -> Study:
    return Study(shop)


def test_fit_goes_on_from_a_bundle(study: Study) -> None:
    frozen = {"freeze": ["encoder", "heads.decoder"]}
    outcome = study.shop.fit(study.config("frozen", **frozen))
    assert outcome.code == 0, outcome.err
    assert f"init_from {study.first}: " in outcome.err
    assert "frozen: " in outcome.err
    first, now = study.weights("first"), study.weights("frozen")
    for name, value in now.items():
        kept = name.startswith(("encoder.", "heads.decoder.", "cmvn"))
        assert torch.equal(value, first[name]) is kept, name
    assert (
        load_bundle(study.first).model.config
        == load_bundle(study.shop.root / "runs" / "frozen" / "bundle").model.config
    )


def test_frames_of_a_frozen_encoder_are_kept(study: Study) -> None:
    changes = {"spec_augment": {"time_masks": 0, "freq_masks": 0}, "features": {"gain_db": 0.0}}
    model = {"freeze": ["encoder"], "augmentation": changes}
    dropout = ("--model.network.dropout", "0.0")
    assert study.shop.fit(study.config("computed", **model), *dropout).code == 0
    frames = str(study.shop.root / "frames")
    outcome = study.shop.fit(study.config("kept", frozen_frames=frames, **model), *dropout)
    assert outcome.code == 0, outcome.err
    assert "frozen_frames: the whole encoder of 12 utterances computed" in outcome.err
    losses = [
        [float(row["val/loss"]) for row in study.metrics(name) if row["val/loss"]]
        for name in ("computed", "kept")
    ]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=3e-3)
    refused = study.config("refused", frozen_frames=frames, freeze=["encoder.front_end"])
    assert study.shop.fit(refused).code == 2


def test_a_config_that_says_otherwise_is_refused_in_one_line(study: Study) -> None:
    outcome = study.shop.fit(study.config("other"), "--model.network.d_model", "32")
    assert "Leave model.network out of the config." in outcome.mistake
    outcome = study.shop.fit(study.config("other"), "--data.features.n_mels", "40")
    assert "Leave data.features out of the config." in outcome.mistake
    outcome = study.shop.fit(study.config("other"), "--init_from", study.shop.root / "nowhere")
    assert "expected a bundle folder" in outcome.mistake
    outcome = study.shop.fit(study.config("other"), "--model.own_layers", "true")
    assert "a bundle without layers of its own on another encoder" in outcome.mistake
    outcome = study.shop.fit(study.config("other"), "--model.freeze", "[encoder.stakc]")
    assert "encoder.stakc names no weight" in outcome.mistake


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_interrupted_it_ends_as_if_it_had_run_through(study: Study, each_batch) -> None:
    settings = {"freeze": ["encoder", "heads.ctc"], "thaw_at": [4, 0]}
    assert study.shop.fit(study.config("through", **settings)).code == 0

    def stop(epoch: int, index: int, ids: list[str]) -> None:
        if (epoch, index) == (2, 0):
            raise KeyboardInterrupt

    each_batch(stop)
    assert study.shop.fit(study.config("stopped", **settings)).code == 130
    each_batch(lambda *_: None)
    outcome = study.shop.fit(study.config("stopped", **settings), "--ckpt_path", "last")
    assert outcome.code == 0, outcome.err
    through, stopped = study.weights("through"), study.weights("stopped")
    for name, value in through.items():
        assert torch.equal(value, stopped[name]), name
    assert torch.equal(through["heads.ctc.weight"], study.weights("first")["heads.ctc.weight"])
    name = "encoder.stack.norm.weight"  # thawed at step 4
    assert not torch.equal(through[name], study.weights("first")[name])


def test_the_checkpoint_wins_over_the_bundle(study: Study) -> None:
    """A training that goes on does not begin with the bundle's weights again."""
    config = study.config("longer")
    assert study.shop.fit(config).code == 0
    steps = study.state("longer")["global_step"]
    outcome = study.shop.fit(config, "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert outcome.code == 0, outcome.err
    assert study.state("longer")["global_step"] == steps // 3 * 4
    again = study.shop.fit(config, "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert "trained already" in again.err


def test_lora_learns_beside_frozen_weights_and_is_kept_apart(study: Study) -> None:
    outcome = study.shop.fit(study.config("low-rank", lora={"rank": 2, "alpha": 4.0}))
    assert outcome.code == 0
    assert "lora: rank 2, 0.00 M values in updates" in outcome.err
    run, first = study.shop.root / "runs" / "low-rank", load_file(study.first / "model.safetensors")
    last = study.weights("low-rank")
    assert last.keys() == first.keys()  # merged: a bundle like any other
    moved = {name for name in last if not torch.equal(last[name], first[name])}
    targets = ("attention", "feed_forward")
    assert any("attention" in name for name in moved)
    assert any("feed_forward" in name for name in moved)
    buffers = ("label_prior", "prior_batches")
    assert all(name.endswith(".weight") for name in moved if not name.endswith(buffers))
    assert all(any(one in name for one in (*targets, *buffers)) for name in moved)
    for name in moved:
        if not name.endswith(buffers):
            assert torch.linalg.matrix_rank(last[name] - first[name], rtol=1e-3) <= 2, name
    # apart, on its base
    adapted = load_adapted(study.first, run / "adapter")
    for name, value in adapted.model.state_dict().items():
        torch.testing.assert_close(value, last[name], rtol=1e-5, atol=1e-6)
    assert speechmm.load(study.first, adapter=run / "adapter").bundle.path == run / "adapter"
    kept = load_file(run / "adapter" / "adapter.safetensors")
    assert not any(name in first and not name.endswith(buffers) for name in kept)
    # on another bundle it is none
    with pytest.raises(CheckpointError, match="expected the bundle that its training started from"):
        load_adapted(run / "bundle", run / "adapter")
    (run / "adapter" / "adapter.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="the file is damaged"):
        load_adapted(study.first, run / "adapter")
    with pytest.raises(CheckpointError, match="safetensors is missing"):
        load_adapted(study.first, study.first)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_an_adapter_of_a_training_in_16_bits_holds_what_learned(
    precision: str, base: Path, tmp_path: Path
) -> None:
    """What is frozen is rounded, too."""
    model, tokenizer = new_model(ENGLISH)
    found = take_weights(model, base, tokenizer, FEATURES, keep_cmvn=False)
    start_lora(model, LoraConfig(rank=2), found.taken)
    HalfWeights(precision).convert_module(model).float()
    with torch.no_grad():
        model.heads["ctc"].bias.add_(1.0)  # as if another tokenizer's, and frozen
        for _, update in updates(model):
            update.up.normal_()
    save_adapter(
        tmp_path / "adapter", base, model, tokenizer, FEATURES, training=TrainingInfo(steps=3)
    )
    kept = load_file(tmp_path / "adapter" / "adapter.safetensors")
    assert {name for name in kept if ".lora_" not in name} == {"heads.ctc.bias"}
    adapted = load_adapted(base, tmp_path / "adapter").model.state_dict()
    for name, value in merged(model).state_dict().items():
        torch.testing.assert_close(adapted[name], value, rtol=0.01, atol=1e-3)


def test_lora_needs_something_to_start_from(study: Study) -> None:
    config = study.shop.config("lost", study.train, study.dev, model={"lora": {"rank": 4}})
    assert "the training starts from nothing" in study.shop.fit(config).mistake
    none = study.config("none", lora={"rank": 4, "targets": ["no such layer"]})
    assert "names no linear layer" in study.shop.fit(none).mistake


def three_heads() -> SpeechTextModel:
    config = SpeechTextConfig(
        d_model=16, heads=2, ff_dim=16, encoder_layers=2, decoder_layers=1, front_channels=4
    )
    return SpeechTextModel(config, vocab_size=9, n_mels=20)


def test_lora_has_no_updates_of_what_is_new_or_frozen() -> None:
    """An adapter adds updates to weights of its base: a new head has none there."""
    model = three_heads()
    known = [name for name, _ in model.named_parameters() if "heads.decoder" not in name]
    freezing = Freezing(model, ["encoder.stack.layers.0"], [])
    start_lora(model, LoraConfig(rank=2), known, freezing)
    names = [name for name, _ in updates(model)]
    assert names
    assert all(name.startswith("encoder.stack.layers.1.") for name in names)
    learning = [name for name, one in model.named_parameters() if one.requires_grad]
    assert any(name.startswith("heads.decoder") for name in learning)
    assert not any("encoder.stack.layers.0" in name for name in learning)


def test_what_lora_starts_from_never_thaws() -> None:
    model = three_heads()
    known = [name for name, _ in model.named_parameters()]
    with pytest.raises(ConfigError, match="thaw_at names a step; expected none"):
        start_lora(model, LoraConfig(rank=2), known, Freezing(model, ["encoder"], [5]))
    model = three_heads()
    with pytest.raises(ConfigError, match="names no linear layer that the training starts from"):
        start_lora(model, LoraConfig(rank=2), [], None)
