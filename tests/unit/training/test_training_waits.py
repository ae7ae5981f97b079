"""Nothing in a training step reads a value back to the host, copies while it waits, or mixes devices.

The step runs on a GPU that is made up: its tensors have shapes and no values, so whoever asks for a value,
or for a size that depends on values, fails. What the host computes for itself is real.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch, SpokenTargets, UnpairedTexts
from speechmm.models.kernels import dispatch
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.voice import VoiceConfig
from speechmm.text.tokenizer import SIL, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.augmentation import AugmentationConfig, Augmenter
from speechmm.training.augmentation.features import FeatureAugmentConfig
from speechmm.training.augmentation.noise_reverb import NoiseReverbConfig
from speechmm.training.constants import constant
from speechmm.training.optimization import OptimizationConfig, make_optimizer
from speechmm.training.tasks import (
    Align,
    Asr,
    GuidedAttention,
    Match,
    Step,
    TasksConfig,
    Text,
    Tts,
    sum_losses,
)

ROWS, FRAMES, TOKENS = 3, 60, 6
NETWORK = SpeechTextConfig(
    d_model=32,
    heads=2,
    ff_dim=64,
    encoder_layers=3,
    middle_stride=2,
    decoder_layers=1,
    front_channels=8,
    attention_window=20,
    utterance_cmn=True,
)


class MadeUpGpu(FakeTensorMode):
    """Runs whatever touches a GPU on shapes alone, and refuses copies that wait."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        to_gpu = any(isinstance(one, torch.device) and one.type == "cuda" for one in leaves)
        there = [one for one in leaves if isinstance(one, FakeTensor)]
        if not (to_gpu or there):
            return func(*args, **kwargs)
        source, target = (args[0] if args else None), kwargs.get("device")
        if target is not None and isinstance(source, torch.Tensor):
            moves = torch.device(target).type != source.device.type
            assert not moves or kwargs.get("non_blocking"), f"{func}: a copy that waits"
        here = [
            one
            for one in leaves
            if isinstance(one, torch.Tensor) and not isinstance(one, FakeTensor)
        ]
        if there and "copy" not in func.name():
            assert all(not one.ndim for one in here), f"{func}: tensors of two devices"
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUpGpu]:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(dispatch, "on_triton", lambda scores: False)  # plain tensors instead
    constant.cache_clear()
    yield MadeUpGpu()
    constant.cache_clear()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["abcdefgh"], kind="char")


def host_batch(tokenizer: Tokenizer) -> Batch:
    aligned = torch.randint(SIL + 1, tokenizer.align_vocab_size, (ROWS, TOKENS + 2))
    aligned[:, 0] = aligned[:, -1] = SIL
    return Batch(
        ids=["a", "b", "c"],
        features=torch.randn(ROWS, FRAMES, 80),
        feature_lengths=torch.tensor([FRAMES, 50, 55]),
        tokens=torch.randint(SIL + 1, tokenizer.vocab_size, (ROWS, TOKENS)),
        token_lengths=torch.tensor([TOKENS, 4, 5]),
        align_tokens=aligned,
        align_lengths=torch.full((ROWS,), TOKENS + 2),
        texts=["abcdef"] * ROWS,
        seconds=1.8,
        references=[None] * ROWS,
        speakers=["s"] * ROWS,
        speeds=[1.0] * ROWS,
        recombined=[False] * ROWS,
        unpaired=UnpairedTexts(
            tokens=torch.randint(SIL + 1, tokenizer.vocab_size, (ROWS, TOKENS)),
            token_lengths=torch.tensor([TOKENS, 4, 5]),
            align_tokens=aligned.clone(),
            align_lengths=torch.full((ROWS,), TOKENS + 2),
            frame_lengths=torch.tensor([FRAMES, 40, 30]),
            longest=FRAMES,
        ),
        spoken=SpokenTargets(
            rows=torch.tensor([0, 2]),
            mel=torch.randn(2, 50, 80),
            lengths=torch.tensor([50, 44]),
            log_pitch=torch.full((2, 50), 5.0),
            pitch_weight=torch.rand(2, 50),
            speakers=torch.tensor([0, -1]),
        ),
    )


AUGMENTATION = AugmentationConfig(
    features=FeatureAugmentConfig(tempo=0.1, vtlp=0.1, gain_db=6.0),
    noise_reverb=NoiseReverbConfig(noise_share=0.5, reverb_share=0.5),
)
TASKS = {
    "guided": TasksConfig(guided_attention=GuidedAttention(weight=0.3)),
    "consistent": TasksConfig(asr=Asr(consistency_weight=0.2, intermediate_weight=0.3)),
    "text": TasksConfig(text=Text(weight=0.5), match=Match(weight=0.5)),
    "speaking": TasksConfig(tts=Tts(weight=1.0), match=Match(weight=0.5)),
    "align alone": TasksConfig(asr=Asr(weight=0.0), align=Align(weight=1.0)),
}


def step_on(gpu: MadeUpGpu, tasks: TasksConfig, optimizer: str, tokenizer: Tokenizer) -> list[str]:
    """Two training steps; the devices of the losses."""
    batch = host_batch(tokenizer)
    augmenter = Augmenter(AUGMENTATION, LogMelConfig(), views=tasks.views)
    with gpu, torch.device("cuda"):
        model = SpeechTextModel(
            NETWORK,
            vocab_size=tokenizer.vocab_size,
            n_mels=80,
            align_vocab_size=tokenizer.align_vocab_size,
            heads=tasks.heads,
            voice=VoiceConfig(speakers=("s", "t")) if tasks.tts.weight else None,
        ).train()
        for task in tasks.active:
            model.heads.update(task.make_heads(model))
    devices = []
    with gpu:
        moves = make_optimizer(model, OptimizationConfig(optimizer=optimizer))
        for number in range(2):
            augmented = augmenter(batch.to("cuda", non_blocking=True), 0, model.normalise)
            encoding = model.encode_normalised(
                augmented.masked, augmented.batch.feature_lengths, clean=augmented.clean
            )
            step = Step(
                model=model,
                batch=augmented.batch,
                encoding=encoding,
                tokenizer=tokenizer,
                log_mel=LogMelConfig(),
                number=10_000 + number,
                wanted=tasks.reads,
            )
            losses, _ = sum_losses(tasks, step)
            devices += [value.device.type for value in losses.values()]
            for (
                weight
            ) in model.parameters():  # autograd wants a driver; its kernels wait for nothing
                weight.grad = torch.zeros_like(weight)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            moves.step()
            moves.zero_grad()
    return devices


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
@pytest.mark.parametrize("tasks", TASKS.values(), ids=TASKS)
def test_a_step_waits_for_nothing(
    gpu: MadeUpGpu, tasks: TasksConfig, optimizer: str, tokenizer: Tokenizer
) -> None:
    assert set(step_on(gpu, tasks, optimizer, tokenizer)) == {"cuda"}


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3).to(x.device),
    ],
    ids=["value", "mask", "download", "two devices", "upload"],
)
def test_a_wait_is_found(gpu: MadeUpGpu, wait: Any) -> None:
    with gpu:
        values = torch.zeros(3, device="cuda")
    with gpu, pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        wait(values)
