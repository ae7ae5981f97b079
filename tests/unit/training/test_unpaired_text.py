"""Texts without audio: planned beside speech, stretched, and trained on by the layers speech uses."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmm.data.batch import UnpairedTexts, pad_tokens
from speechmm.data.plan import BatchPlan
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError, ManifestError
from speechmm.models.front_end import length_mask
from speechmm.models.losses import ctc_frames_needed
from speechmm.models.text_front_end import DurationStatistics
from speechmm.text.tokenizer import Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.tasks import Align, Asr, Match, Step, TasksConfig, Text, sum_losses
from speechmm.training.tasks.match import distance
from speechmm.training.tasks.text import text_front_end
from speechmm.training.unpaired import SizedText, TextPool, WithTexts, read_unpaired

TEXTS = ("a word", "go home now", "a word and a word", "home")
SAID = ("go home", "a word")
WORDS = "go home now and a word"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([WORDS], kind="char")


def unpaired(tokenizer: Tokenizer, texts: tuple[str, ...], *, more: int = 0) -> UnpairedTexts:
    """Seven feature frames a unit; ``more`` columns and frames of padding."""
    tokens, lengths = pad_tokens([tokenizer.encode(text) for text in texts], lambda n: n + more)
    aligned, align_lengths = pad_tokens(
        [tokenizer.encode_aligned(text).ids for text in texts], lambda n: n + more
    )
    frames = 7 * align_lengths
    return UnpairedTexts(
        tokens, lengths, aligned, align_lengths, frames, int(frames.max()) + 4 * more
    )


def losses_of(step: Step, tasks: TasksConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    losses, _ = sum_losses(tasks, step)
    return losses


def with_gradient(module: torch.nn.Module) -> set[str]:
    return {
        name.partition(".")[0]
        for name, weight in module.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }


def test_text_teaches_the_layers_and_neither_the_audio_front_end_nor_the_alignment_head(
    tokenizer, make_step
):
    tasks = TasksConfig(text=Text(weight=1.0))
    step = make_step(tokenizer, tasks, SAID, unpaired=unpaired(tokenizer, TEXTS))
    losses = losses_of(step, tasks)
    (0.3 * losses["loss_text_ctc"] + 0.7 * losses["loss_text_attention"]).backward()
    assert with_gradient(step.model.encoder) == {"stack"}
    assert with_gradient(step.model.heads) == {"ctc", "decoder", "text_front_end"}
    layers = step.model.encoder.stack.layers
    assert all(with_gradient(layer) == {name for name, _ in layer.named_children()} - {"dropout"}
               for layer in layers)  # fmt: skip


@pytest.mark.parametrize(("codes", "taught"), [("", 0), ("de", 1), ("de en", 0)])
def test_text_teaches_the_tag_that_recognition_writes_by(tokenizer, make_step, codes, taught):
    tasks = TasksConfig(text=Text(weight=1.0))
    step = make_step(tokenizer, tasks, SAID, unpaired=unpaired(tokenizer, TEXTS))
    decoder = step.model.decoder
    decoder.names = ("asr", *(f"asr:{code}" for code in codes.split()))
    decoder.tags = torch.nn.Embedding(len(decoder.names), step.model.config.d_model)
    losses_of(step, tasks)["loss_text_attention"].backward()
    assert decoder.tags.weight.grad.any(dim=1).nonzero().tolist() == [[taught]]


def test_match_moves_text_to_speech_and_not_speech_to_text(tokenizer, make_step):
    tasks = TasksConfig(match=Match(weight=1.0))
    step = make_step(tokenizer, tasks, SAID)
    loss = losses_of(step, tasks)["loss_match"]
    assert 0 < loss < 2
    loss.backward()
    assert with_gradient(step.model.encoder) == {"stack"}
    assert with_gradient(step.model.heads) == {"text_front_end"}
    assert with_gradient(step.model.encoder.stack.layers[0])  # below the middle
    assert not with_gradient(step.model.encoder.stack.layers[1])


def test_the_distance_counts_valid_frames_and_no_scale():
    torch.manual_seed(0)
    one = torch.randn(2, 5, 8)
    lengths = torch.tensor([5, 3])
    assert distance(one, 3.0 * one, lengths) == pytest.approx(0.0, abs=1e-6)
    assert distance(one, -one, lengths) == pytest.approx(2.0)
    other = one.clone()
    other[1, 3:] = 7.0
    assert distance(one, other, lengths) == pytest.approx(0.0, abs=1e-6)


def test_without_texts_every_loss_is_what_it_was(tokenizer, make_step):
    """The task is on, but nothing comes with the batch: a share of 0."""
    off, on = TasksConfig(), TasksConfig(text=Text(weight=0.5))
    steps = [make_step(tokenizer, tasks, SAID) for tasks in (off, on)]
    losses = [losses_of(step, tasks) for step, tasks in zip(steps, (off, on), strict=True)]
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    for one in losses:
        one["loss"].backward()
    weights = [dict(step.model.named_parameters()) for step in steps]
    assert all(
        torch.equal(weight.grad, weights[1][name].grad) for name, weight in weights[0].items()
    )
    # processes that train together wait for the gradient of every weight
    assert all(weight.grad is not None for weight in text_front_end(steps[1].model).parameters())


def test_before_its_first_step_the_task_only_listens(tokenizer, make_step):
    tasks = TasksConfig(text=Text(weight=0.5, after_steps=501))
    step = make_step(tokenizer, tasks, SAID, unpaired=unpaired(tokenizer, TEXTS))
    assert not {name for name in losses_of(step, tasks) if "text" in name}
    gathered = text_front_end(step.model).durations.gathered
    assert gathered[:, 0].sum() == step.batch.align_lengths.sum()
    later = dataclasses.replace(step, number=501)
    assert {"loss_text_ctc", "loss_text_attention"} <= losses_of(later, tasks).keys()


def test_padding_changes_no_loss(tokenizer, monkeypatch, make_step):
    """Nothing is drawn here: padding changes how many numbers are."""

    def evenly(self, tokens, lengths, silent):
        return length_mask(lengths, tokens.shape[1]).float()

    monkeypatch.setattr(DurationStatistics, "sample", evenly)
    tasks = TasksConfig(text=Text(weight=1.0, mask_share=0.0))
    found = [
        losses_of(
            make_step(tokenizer, tasks, SAID, unpaired=unpaired(tokenizer, TEXTS, more=more)), tasks
        )
        for more in (0, 5)
    ]
    for name in ("loss_text_ctc", "loss_text_attention"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"text": {"weight": 1.0}, "align": {"weight": 0.0}}, "expected align and ctc and decoder"),
        ({"match": {"weight": 1.0}, "align": {"weight": 0.0}}, "expected align to be trained"),
        ({"text": {"weight": 1.0}, "asr": {"ctc_weight": 0.0}}, "expected align and ctc"),
    ],
)
def test_what_it_works_on_must_be_trained(tasks: dict[str, Any], message: str):
    kinds = {"text": Text, "match": Match, "align": Align, "asr": Asr}
    with pytest.raises(ConfigError, match=message):
        TasksConfig(**{name: kinds[name](**settings) for name, settings in tasks.items()})


@pytest.mark.parametrize(
    "settings",
    [{"weight": -1.0}, {"mask_share": 1.0}, {"mask_tokens": 0}, {"ctc_weight": 1.5}, {"after_steps": -1}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"model\.tasks\.text: "):
        Text(**settings)


def pool(seconds: float = 2.0, seed: int = 0) -> TextPool:
    texts = [SizedText(f"text {n}", 5 + n % 17, 4 + n % 11) for n in range(50)]
    return TextPool(
        texts, [6.0, 7.0, 9.0], seconds=seconds, frame_shift=0.01, subsampling=4, seed=seed
    )


def test_every_text_comes_once_before_any_comes_again():
    drawn = pool()
    groups, seen = [], Counter()
    while len(seen) < 50:
        groups.append(drawn.draw(len(groups)))
        seen.update(one.text for one in groups[-1])
    assert set(seen.values()) == {1}
    assert pool().draw(3) == groups[3]  # in any order
    assert pool(seed=1).draw(3) != groups[3]
    second = [drawn.draw(len(groups) + place) for place in range(len(groups))]
    assert Counter(one.text for group in second for one in group) == seen
    assert [{one.text for one in group} for group in second] != [
        {one.text for one in group} for group in groups
    ]


def test_a_group_is_as_long_as_asked_and_a_text_as_speech_is():
    for place in range(20):
        group = pool(seconds=3.0).draw(place)
        units = [5 + int(one.text.split()[1]) % 17 for one in group]
        assert len(group) * max(units) * 0.07 <= 3.0
        for one, count in zip(group, units, strict=True):
            least = 4 * (4 + int(one.text.split()[1]) % 11)
            assert one.frames in {max(least, round(count * rate)) for rate in (6.0, 7.0, 9.0)}


def test_processes_share_the_texts_and_an_epoch_goes_on_where_the_last_one_ended():
    class Cuts:
        def set_epoch(self, epoch: int) -> None:
            pass

        def __iter__(self):
            return iter([[], BatchPlan([]), []])

        def __len__(self) -> int:
            return 3

    samplers = [WithTexts(Cuts(), pool(), batches=3, world_size=2, rank=rank) for rank in (0, 1)]
    found = {}
    for epoch in (1, 0):
        for rank, sampler in enumerate(samplers):
            sampler.set_epoch(epoch)
            for index, plan in enumerate(sampler):
                found[(epoch * 3 + index) * 2 + rank] = plan.unpaired
    assert [found[place] for place in range(12)] == [pool().draw(place) for place in range(12)]


def test_texts_that_cannot_be_used_are_named(tokenizer, tmp_path: Path):
    file = tmp_path / "lines.txt"
    file.write_text("go home\n\n...\n日本\na word\n" + "go " * 60 + "\n", encoding="utf-8")
    skipped = SkipReport()
    texts = read_unpaired([file], tokenizer, longest=100, skipped=skipped)
    assert [one.text for one in texts] == ["go home", "a word"]
    assert [one.units for one in texts] == [
        len(tokenizer.encode_aligned(one.text).ids) for one in texts
    ]
    for one in texts:
        tokens, lengths = pad_tokens([tokenizer.encode(one.text)])
        assert one.least == ctc_frames_needed(tokens, lengths).item()
    assert len(skipped) == 2
    assert "knows nothing of its text" in skipped.items[0][1]
    assert "its 181 units are too many; expected at most 100" in skipped.items[1][1]
    file.write_text("日本\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"data\.text: no text that can be used"):
        read_unpaired([file], tokenizer, longest=100, skipped=SkipReport())
