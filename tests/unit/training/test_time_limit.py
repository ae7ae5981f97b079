"""``trainer.max_time``: the learning rate has fallen when the time is up."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from speechmm.training.module import JointModule
from speechmm.training.optimization import OptimizationConfig, learning_rate_factor
from speechmm.training.time_limit import LOOK_EVERY

PEAK = OptimizationConfig().learning_rate
SECONDS = 80
MAX_TIME = "00:00:01:20"

pytestmark = pytest.mark.usefixtures("no_picture")


@dataclass
class Clock:
    """A clock that the steps of trainings move, and nothing else."""

    slow_from: int = 10**9
    """The step from which on steps take two seconds, not one."""
    ends_at: int = 10**9
    """The step at which the user interrupts."""
    rates: list[float] = field(default_factory=list)
    """Learning rate of every step."""
    now: float = 0.0

    def step(self, module: JointModule) -> None:
        self.now += 1.0 if len(self.rates) < self.slow_from else 2.0
        self.rates.append(module.trainer.optimizers[0].param_groups[0]["lr"])
        if len(self.rates) == self.ends_at:
            raise KeyboardInterrupt


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    original = JointModule.on_train_batch_start

    def step(module: JointModule, batch: Any, batch_idx: int) -> None:
        original(module, batch, batch_idx)
        made.step(module)

    monkeypatch.setattr(JointModule, "on_train_batch_start", step)
    seen = SimpleNamespace(monotonic=lambda: made.now)
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", seen)
    return made


@pytest.fixture(scope="module")
def corpus(shop) -> tuple[Path, Path]:
    return shop.corpus("train", 25), shop.corpus("dev", 2)


def config(shop, corpus: tuple[Path, Path], name: str, **trainer: Any) -> Path:
    return shop.config(name, *corpus, trainer=trainer, data={"batch_seconds": 4.0})


def planned(steps: int) -> list[float]:
    return [
        PEAK * learning_rate_factor(i, warmup_steps=3, total_steps=float(steps))
        for i in range(steps)
    ]


@pytest.mark.parametrize("epochs", [1000, -1])
def test_learning_rate_falls_until_time_is_up(shop, corpus, clock: Clock, epochs: int) -> None:
    name = f"epochs{epochs}"
    outcome = shop.fit(config(shop, corpus, name, max_epochs=epochs, max_time=MAX_TIME))
    assert outcome.code == 0, outcome.err
    assert len(clock.rates) == SECONDS
    known = slice(LOOK_EVERY + 1, None)
    assert clock.rates[known] == pytest.approx(planned(SECONDS)[known])
    assert "(100 %" in [line for line in outcome.err.splitlines() if line.startswith("epoch")][-1]
    assert (shop.root / "runs" / name / "bundle" / "model.safetensors").is_file()


def test_slower_steps_end_as_low(shop, corpus, clock: Clock) -> None:
    clock.slow_from = 30
    trainer = {"max_epochs": 1000, "max_time": MAX_TIME}
    assert shop.fit(config(shop, corpus, "slower", **trainer)).code == 0
    assert len(clock.rates) == 30 + (SECONDS - 30) / 2
    assert clock.rates == sorted(clock.rates[:4]) + sorted(clock.rates[4:], reverse=True)
    assert clock.rates[-1] < 0.1 * PEAK


def test_enough_time_changes_nothing(shop, corpus, clock: Clock) -> None:
    trainer = {"max_epochs": 1000, "max_steps": 45, "max_time": MAX_TIME}
    assert shop.fit(config(shop, corpus, "enough", **trainer)).code == 0
    assert clock.rates == pytest.approx(planned(45))


def test_only_time_of_this_training_counts(shop, corpus, clock: Clock) -> None:
    assert shop.fit(config(shop, corpus, "on", max_epochs=2)).code == 0
    first = len(clock.rates)
    trainer = {"max_epochs": 1000, "max_time": MAX_TIME}
    longer = config(shop, corpus, "on", **trainer)
    assert shop.fit(longer, "--ckpt_path", "last").code == 0
    assert len(clock.rates) == first + SECONDS
    assert clock.rates[-1] < 0.05 * PEAK < clock.rates[-SECONDS // 2]


def test_an_interrupted_training_goes_on_at_its_rate(shop, corpus, clock: Clock) -> None:
    limited = config(shop, corpus, "interrupted", max_epochs=1000, max_time=MAX_TIME)
    clock.ends_at = 60
    assert shop.fit(limited).code == 130
    before, clock.rates = clock.rates, []
    assert shop.fit(limited, "--ckpt_path", "last").code == 0
    repeated = before[SECONDS - len(clock.rates) :]
    assert 1 < len(repeated) < LOOK_EVERY
    assert clock.rates[: len(repeated)] == pytest.approx(repeated, rel=0.02)
    assert clock.rates[-1] < 0.05 * PEAK


def test_a_limit_is_needed(shop, corpus) -> None:
    outcome = shop.fit(config(shop, corpus, "endless", max_epochs=-1))
    assert outcome.code == 2
    assert "Set trainer.max_epochs or trainer.max_time." in outcome.mistake


def test_a_time_that_is_none(shop, corpus) -> None:
    outcome = shop.fit(config(shop, corpus, "sixty", max_time="60"))
    assert outcome.code == 2
    assert "duration='60'" in outcome.mistake
    assert "Expected a string in the format DD:HH:MM:SS. Correct the config." in outcome.mistake
