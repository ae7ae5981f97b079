"""Settings that are of the right name and no use: empty sections, null, nan, sizes that nothing has."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from speechmm.errors import CheckpointError, ConfigError
from speechmm.models.language_model import LanguageModelConfig
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.training.checkpoints import check_checkpoint


@pytest.fixture(scope="module")
def good(shop) -> tuple[Path, Path]:
    """A training and a dev manifest."""
    return shop.corpus("train", 3), shop.corpus("dev", 2)


def put(config: Path, name: str, value: object) -> Path:
    """Sets one setting of a config, whatever stood there."""
    settings: dict[str, Any] = yaml.safe_load(config.read_text("utf-8"))
    *sections, last = name.split(".")
    inner = settings
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    config.write_text(yaml.safe_dump(settings), "utf-8")
    return config


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("trainer", None, "nothing"),
        ("trainer", [{"max_epochs": 1}, {}], "[{'max_epochs': 1}, {}]"),
        ("model.tasks.asr", [], "[]"),
        ("model.optimization", 3, "3"),
    ],
)
def test_a_section_that_is_none(name: str, value: object, shown: str, shop, good) -> None:
    line = shop.fit(put(shop.config("sections", *good), name, value)).mistake
    assert f"--{name}: found {shown}; expected a section of settings by their names" in line


def test_a_section_that_is_none_before_flags_of_it(shop, good) -> None:
    config = put(shop.config("sections", *good), "trainer", [{"max_epochs": 1}, {}])
    line = shop.fit(config, "--trainer.max_epochs", 1).mistake
    assert "--trainer: found " in line
    assert "expected a section of settings by their names" in line


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("patience", "0"),
        ("data.features.n_mels", "80"),
        ("trainer.accelerator", "'auto'"),
    ],
)
def test_null_where_a_value_is_needed(name: str, default: str, shop, good) -> None:
    line = shop.fit(put(shop.config("null", *good), name, None)).mistake
    assert f"--{name}: found null; expected a value, such as {default}" in line


def test_null_of_a_language_model(shop, good) -> None:
    config = shop.config("language", *good)
    settings = yaml.safe_load(config.read_text("utf-8"))
    data = {name: settings["data"][name] for name in ("train", "dev", "tokenizer")}
    network = {"d_model": 16, "heads": 2, "ff_dim": 16, "layers": None}
    whole = {"kind": "lm", "data": data, "model": {"network": network}}
    config.write_text(yaml.safe_dump(whole), "utf-8")
    assert "--model.network.layers: found null; expected" in shop.fit(config).mistake


def test_null_where_there_may_be_none(shop, good) -> None:
    config = shop.config("optional", *good, trainer={"max_steps": 1})
    for name in ("data.cmvn", "data.features.f_max", "trainer.check_val_every_n_epoch"):
        put(config, name, None)
    assert shop.fit(config).code == 0


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("model.optimization.learning_rate", float("nan"), "found nan; expected a finite number"),
        ("trainer.check_val_every_n_epoch", 0, "found 0; expected more than 0"),
        ("trainer.accelerator", "abacus", "trainer: You selected an invalid accelerator name"),
        ("trainer.devices", -1, "trainer: `devices` selected with `CPUAccelerator`"),
        ("model.network.encoder_layers", 2**63, "encoder_layers is 9223372036854775808; expected"),
        ("data.num_workers", 100_000, "num_workers 100000, cache_gb 1.0"),
        ("data.num_workers", -1, "num_workers -1, cache_gb 1.0"),
    ],
)
def test_numbers_that_make_no_sense(name: str, value: object, complaint: str, shop, good) -> None:
    assert complaint in shop.fit(put(shop.config("numbers", *good), name, value)).mistake


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"heads": 0}, "heads is 0; expected 1 to 65536"),
        ({"d_model": 10**7}, "d_model is 10000000; expected 1 to 65536"),
        ({"ff_dim": 0}, "ff_dim is 0; expected 1 to 65536"),
        ({"decoder_layers": -1}, "decoder_layers is -1; expected 0 to 1000"),
        ({"conv_kernel": -1}, "conv_kernel is -1; expected 0 to 65536"),
        ({"align_dim": 10**9}, "align_dim is 1000000000; expected 1 to 65536"),
    ],
)
def test_sizes_that_no_network_has(sizes: dict[str, int], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        SpeechTextConfig(**sizes)


def test_layers_that_no_language_model_has() -> None:
    with pytest.raises(ConfigError, match="layers is 1000000; expected 1 to 1000"):
        LanguageModelConfig(layers=10**6)


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda checkpoint: checkpoint.pop(name)


def replace(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda checkpoint: checkpoint.update({name: value})


@pytest.mark.parametrize(
    "spoil",
    [
        drop("optimizer_states"),
        drop("pytorch-lightning_version"),
        replace("state_dict", None),
        replace("loops", {}),
        replace("callbacks", []),
    ],
)
def test_checkpoints_of_other_programs(
    spoil: Callable[[dict[str, Any]], None], shop, good, tmp_path: Path
) -> None:
    config = shop.config("other-checkpoints", *good, trainer={"max_epochs": 1})
    last = shop.root / "runs" / "other-checkpoints" / "checkpoints" / "last.ckpt"
    if not last.is_file():
        assert shop.fit(config).code == 0
    checkpoint = torch.load(last, weights_only=True)
    spoil(checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    run = ["--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 2]
    line = shop.fit(config, *run, "--ckpt_path", tmp_path / "x.ckpt").mistake
    assert f"{tmp_path / 'x.ckpt'}: does not fit the settings (" in line


def test_a_record_of_a_checkpoint_that_has_another_size(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    parts = {"state_dict": {"a": torch.zeros(64)}, "epoch": 0, "global_step": 0}
    torch.save(parts, path)
    check_checkpoint(path)
    data = path.read_bytes()
    longer = data.replace(b"K@", b"K\x7f")  # the pickled number of elements: 64, then 127
    assert longer != data
    path.write_bytes(_with_checksums(longer))
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_checkpoint(path)


def _with_checksums(damaged: bytes) -> bytes:
    """The same archive with checksums that fit what it holds now."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(damaged)) as old, zipfile.ZipFile(written, "w") as new:
        for info in old.infolist():
            at = info.header_offset
            name, extra = (int.from_bytes(damaged[at + k : at + k + 2], "little") for k in (26, 28))
            begin = at + 30 + name + extra
            new.writestr(info.filename, damaged[begin : begin + info.file_size])
    return written.getvalue()
