"""``speechmm fit`` on what users have: damaged files, odd files, odd texts, mistakes in settings."""

import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut

from speechmm.data.manifest import make_cut, write_cuts
from speechmm.models.bundle import load_bundle
from speechmm.training.callbacks.metrics import read_metrics
from speechmm.training.run_folder import RECORD, RunFolder

SPEEDS = [1.0, 1.1]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_length(path: Path) -> None:
    soundfile.write(path, np.zeros(0, dtype="float32"), 16000)


def truncated_flac(path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 16000)
    soundfile.write(path, samples, 16000, format="FLAC")
    path.write_bytes(path.read_bytes()[:-8000])


def text_file(path: Path) -> None:
    path.write_text("this is no audio\n" * 100)


def not_numbers(path: Path) -> None:
    samples = np.full(16000, 0.1, dtype="float32")
    samples[8000] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "there is no such file"),
    "empty": (empty, "the file is empty"),
    "zero-length": (zero_length, "it holds no samples"),
    "truncated-flac": (truncated_flac, "damaged or cut short"),
    "text-file": (text_file, "it is not audio"),
    "nan": (not_numbers, "not a finite number"),
}
"""How a recording is spoilt after its manifest was written, and what is said of it."""

UNFIT = {
    "20-ms": (0.02, "go home", "its 0.02 s are too short for its 7 tokens"),
    "shorter-than-text": (0.2, "go home now", "its 0.20 s are too short for its 11 tokens"),
    "no-text": (1.0, "", "its text is empty"),
    "only-signs": (1.0, " -- ?!", "its text is empty"),
    "foreign": (1.0, "привіт", "the tokenizer knows nothing of its text 'привіт'"),
}
"""Seconds, text, and why such an utterance cannot be trained on."""

ODD_FILES: dict[str, tuple[int, int, str]] = {
    "8-khz": (8000, 1, "PCM_16"),
    "11-khz": (11025, 1, "PCM_16"),
    "44-khz": (44100, 1, "PCM_16"),
    "48-khz": (48000, 1, "PCM_16"),
    "8-bit": (16000, 1, "PCM_U8"),
    "24-bit": (16000, 1, "PCM_24"),
    "float": (16000, 1, "FLOAT"),
    "stereo": (16000, 2, "PCM_16"),
    "6-channels": (44100, 6, "PCM_16"),
}
"""Rate (Hz), channels and coding of recordings that must just work."""

ODD_LINES = {
    "not-utf-8": (b'{"id": "caf\xe9"}', "not UTF-8"),
    "not-json": (b'{"id": ', "not JSON"),
    "no-cut": (b'{"id": "a", "text": "go home"}', "found no cut"),
}


@dataclass
class Mixed:
    """A training on good and bad utterances together."""

    outcome: object
    again: object
    manifest: Path
    folder: Path
    seen: list[str]


def odd_cuts(shop) -> Iterator[MonoCut]:
    for name, (rate, channels, subtype) in ODD_FILES.items():
        path = shop.root / f"{name}.wav"
        samples = shop.noise(name, 0.8, rate=rate, channels=channels)
        soundfile.write(path, samples, rate, subtype=subtype)
        yield make_cut(id=name, audio=path, text="go home")
    path = shop.root / "two  spaces" / 'it\'s a "ü" 语.wav'
    path.parent.mkdir()
    soundfile.write(path, shop.noise("path", 0.8), 16000)
    yield make_cut(id="path", audio=path, text="a word")
    path = shop.root / "silence.wav"
    soundfile.write(path, np.zeros(16000, dtype="float32"), 16000)
    yield make_cut(id="silence", audio=path, text="go home")
    yield shop.cut("partly-foreign", 1.0, "go домой")


def an_hour(path: Path) -> Path:
    block = np.zeros(60 * 4000, dtype="int16")
    with soundfile.SoundFile(path, "w", 4000, 1, subtype="PCM_16", format="FLAC") as file:
        for _ in range(60):
            file.write(block)
    return path


@pytest.fixture(scope="module")
def mixed(shop) -> Iterator[Mixed]:
    """One training on everything above, and once more when it is done."""
    from speechmm.training.module import JointModule

    cuts = [*odd_cuts(shop), shop.cut("good-1", 0.9), shop.cut("good-2", 0.5, "a word")]
    cuts += [shop.cut(name, seconds, text) for name, (seconds, text, _) in UNFIT.items()]
    cuts.append(make_cut(id="hour", audio=an_hour(shop.root / "hour.flac"), text="go home"))
    for name, (spoil, _) in SPOILT.items():
        cuts.append(shop.cut(name))
        spoil(shop.root / "audio" / f"{name}.wav")
    manifest = shop.root / "mixed set.jsonl"
    write_cuts(cuts, manifest)
    twice = manifest.read_bytes().splitlines()[0]
    lines = [*(line for line, _ in ODD_LINES.values()), twice]
    manifest.write_bytes(manifest.read_bytes() + b"\n".join(lines) + b"\n")
    config = shop.config("mixed", manifest, shop.corpus("dev", 2), data={"speeds": SPEEDS})
    seen: list[str] = []
    original = JointModule.on_train_batch_start

    def hook(module, batch, batch_idx: int) -> None:
        seen.extend(batch.ids)
        original(module, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JointModule, "on_train_batch_start", hook)
        outcome = shop.fit(config)
    again = shop.fit(config)
    yield Mixed(outcome, again, manifest, shop.root / "runs" / "mixed", seen)


GOOD = [*ODD_FILES, "path", "silence", "partly-foreign", "good-1", "good-2"]


def test_good_utterances_among_bad_ones_are_trained_on(mixed: Mixed) -> None:
    assert sorted(mixed.seen) == sorted([*GOOD, *(f"{name}_sp1.1" for name in GOOD)])
    series = read_metrics(mixed.folder / "metrics.csv")
    assert all(math.isfinite(value) for rows in series.values() for _, value in rows)
    weights = load_bundle(mixed.folder / "bundle").model.state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_bad_utterances_are_counted_and_the_exit_code_says_so(mixed: Mixed) -> None:
    bad = len(SPOILT) + len(UNFIT) + len(ODD_LINES) + 2  # an hour, an id that is there twice
    good = len(GOOD) + 2  # those of dev
    assert mixed.outcome.code == 3
    assert mixed.outcome.out == ""
    assert mixed.outcome.err.splitlines()[-1] == f"{bad} of {good + bad} utterances skipped"
    assert len(mixed.outcome.skipped) == bad
    assert "Traceback" not in mixed.outcome.err


def test_what_was_left_out_is_named_before_the_training_too(mixed: Mixed) -> None:
    before, _, _ = mixed.outcome.err.partition("epoch 1/1")
    for item, reason in mixed.outcome.skipped.items():
        assert f"left out {item}: {reason}\n" in before


def test_a_finished_training_is_left_alone_and_names_them_again(mixed: Mixed) -> None:
    assert mixed.again.code == 3
    assert mixed.again.skipped == mixed.outcome.skipped
    first, *_, last = mixed.again.err.splitlines()
    assert first.endswith("trained already with these settings and data")
    assert last == mixed.outcome.err.splitlines()[-1]


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_recordings(name: str, mixed: Mixed) -> None:
    reason = mixed.outcome.skipped[name]
    assert f"{name}.wav: " in reason
    assert SPOILT[name][1] in reason


@pytest.mark.parametrize("name", UNFIT)
def test_texts_and_lengths_that_do_not_fit(name: str, mixed: Mixed) -> None:
    assert mixed.outcome.skipped[name].startswith(UNFIT[name][2])


def test_an_hour_is_too_long(mixed: Mixed) -> None:
    reason = mixed.outcome.skipped["hour"]
    assert reason == "it lasts 3600.0 s; expected at most 120 s. Segment it"


@pytest.mark.parametrize("number", range(len(ODD_LINES)))
def test_lines_that_are_no_cut(number: int, mixed: Mixed) -> None:
    line = mixed.manifest.read_bytes().count(b"\n") - len(ODD_LINES) + number
    _, reason = list(ODD_LINES.values())[number]
    assert mixed.outcome.skipped[f"{mixed.manifest}:{line}"].startswith(reason)


def test_an_id_that_is_there_twice(mixed: Mixed) -> None:
    last = mixed.manifest.read_bytes().count(b"\n")
    reason = mixed.outcome.skipped[f"{mixed.manifest}:{last}"]
    assert reason.startswith('id "8-khz" was on line 1 already')


def test_characters_the_tokenizer_does_not_know_are_named(mixed: Mixed) -> None:
    (line,) = (line for line in mixed.outcome.err.splitlines() if "one unknown sign" in line)
    assert line.startswith(f"data.train: 1 of {len(GOOD)} utterances have characters")
    assert line.endswith(": д й м о")


@pytest.fixture(scope="module")
def good(shop) -> tuple[Path, Path]:
    """Manifests without a fault."""
    return shop.corpus("good", 4), shop.corpus("good-dev", 2)


def test_good_input_is_exit_code_0(shop, good) -> None:
    outcome = shop.fit(shop.config("good run", *good, trainer={"max_steps": 1}))
    assert (outcome.code, outcome.out) == (0, "")
    assert "skipped" not in outcome.err
    assert load_bundle(shop.root / "runs" / "good run" / "bundle").training.steps == 1


def test_an_id_that_is_in_two_manifests(shop, good) -> None:
    data = {"train": [str(good[0]), str(good[0])]}
    outcome = shop.fit(shop.config("overlap", *good, data=data, trainer={"max_steps": 1}))
    assert outcome.code == 3
    reason = f"{good[0]}: {good[0]} has this id already"
    assert outcome.skipped == {f"good-{index}": reason for index in range(4)}


def test_copies_that_speed_makes_too_short_are_counted(shop, good) -> None:
    manifest = shop.root / "just long enough.jsonl"
    write_cuts([shop.cut("just", 0.26), shop.cut("long", 0.9)], manifest)
    config = shop.config("copies", manifest, good[1], data={"speeds": [1.0, 1.3]})
    outcome = shop.fit(config)
    assert outcome.code == 0
    assert "data.train: left out 1 of 4 copies at other speeds" in outcome.err


def test_strict_makes_the_first_bad_utterance_a_mistake(shop, good, mixed: Mixed) -> None:
    config = shop.config("strict", mixed.manifest, good[1])
    line = shop.fit(config, "--data.strict", "true").mistake
    assert "not UTF-8" in line  # lines are read before recordings
    shop.cut("bad", 1.0)
    manifest = shop.root / "one bad.jsonl"
    write_cuts([shop.cut("fine"), shop.cut("gone")], manifest)
    (shop.root / "audio" / "gone.wav").unlink()
    line = shop.fit(shop.config("strict", manifest, good[1]), "--data.strict", "true").mistake
    assert "error: gone: " in line
    assert "there is no such file" in line
    assert not (shop.root / "runs" / "strict" / "bundle").exists()


def test_nothing_usable_in_dev(shop, good) -> None:
    manifest = shop.root / "nothing usable.jsonl"
    write_cuts([shop.cut("mute", 1.0, ""), shop.cut("short", 0.1)], manifest)
    line = shop.fit(shop.config("nothing", good[0], manifest)).mistake
    assert "data.dev: none of 2 utterances can be used (the first: its text is empty" in line


def test_nothing_usable_as_a_user_sees_it(shop, good) -> None:
    """Of the whole program, in a process of its own: no log, warning or traceback on top."""
    manifest = shop.root / "nothing usable.jsonl"
    write_cuts([shop.cut("mute", 1.0, ""), shop.cut("short", 0.1)], manifest)
    config = shop.config("nothing", manifest, good[1])
    done = subprocess.run(
        [sys.executable, "-m", "speechmm", "fit", "--config", config],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("speechmm fit: error: data.train: none of 2 utterances can be used")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "not found"),
        (b'{"id": "caf\xe9"}\n', "no usable cuts"),
    ],
    ids=["missing", "not-utf-8"],
)
def test_manifests_without_a_cut(content: bytes | None, complaint: str, shop, good) -> None:
    manifest = shop.root / "manifest.jsonl"
    manifest.unlink(missing_ok=True)
    if content is not None:
        manifest.write_bytes(content)
    line = shop.fit(shop.config("manifest", manifest, good[1])).mistake
    assert f"{manifest}: {complaint}" in line
    assert '"speechmm prepare"' in line


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        (b"\x00\x01\x02", "cannot be read ("),
        (b'{"format": "speechmm-tokenizer/1", "kind": "char"}', "not a usable tokenizer"),
    ],
    ids=["missing", "binary", "incomplete"],
)
def test_tokenizers_that_are_none(content: bytes | None, complaint: str, shop, good) -> None:
    path = shop.root / "broken tokenizer.json"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    line = shop.fit(shop.config("tokens", *good, data={"tokenizer": str(path)})).mistake
    assert f"{path}: {complaint}" in line
    assert '"speechmm tokenizer"' in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data.batch_secnods", "3"], "did you mean --data.batch_seconds?"),
        (["--no-such-flag"], "no-such-flag"),
        (["--data.batch_seconds", "many"], "--data.batch_seconds: found 'many'; expected float"),
        (["--data.batch_seconds", "-1"], "expected positive seconds"),
        (["--model.network.heads", "3"], "heads"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt is not a file"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], complaint: str, shop, good) -> None:
    line = shop.fit(shop.config("flags", *good), *arguments).mistake
    assert line.startswith("speechmm fit: error: ")
    assert complaint in line


@pytest.mark.parametrize(
    ("section", "key", "close"),
    [
        ("data", "batch_secnods", "batch_seconds"),
        ("model", "networks_", "network"),
    ],
)
def test_unknown_keys_in_the_config(section: str, key: str, close: str, shop, good) -> None:
    line = shop.fit(shop.config("keys", *good, **{section: {key: 3}})).mistake
    assert f"{section}.{key}: there is no such setting (did you mean {section}.{close}?)" in line


def test_unknown_keys_deeper_or_higher_in_the_config(shop, good) -> None:
    config = shop.config("keys", *good, model={"network": {"d_modle": 16}})
    assert "model.network.d_modle: there is no such setting" in shop.fit(config).mistake
    config.write_text("modelx: 3\n" + shop.config("keys", *good).read_text())
    assert "modelx: there is no such setting (did you mean model?)" in shop.fit(config).mistake


@pytest.mark.parametrize(
    "content", [b"data: [unclosed", b"\xff\xfe\x00\x01", b"just words"], ids=repr
)
def test_configs_that_are_none(content: bytes, shop) -> None:
    path = shop.root / "broken.yaml"
    path.write_bytes(content)
    assert f"error: {path}: " in shop.fit(path).mistake


def test_a_config_that_is_not_there(shop) -> None:
    line = shop.fit(shop.root / "nowhere.yaml").mistake
    assert "--config: File does not exist: " in line
    assert "nowhere.yaml" in line


def test_a_run_folder_below_a_file(shop, good) -> None:
    file = shop.root / "a file"
    file.write_text("in the way")
    config = shop.config("x", *good, trainer={"default_root_dir": str(file / "run")})
    line = shop.fit(config).mistake
    assert f"{file / 'run'}: cannot be written (Not a directory)" in line
    assert "trainer.default_root_dir" in line


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond 20 kB, as on a disk with no more room.

    The limit is the whole process's: pytest must not write its own log, which may be a file
    of that length by now, while it holds.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(shop, good) -> None:
    config = shop.config("full", *good)
    with full_disk():
        outcome = shop.fit(config)
    assert outcome.code == 2
    *_, line = outcome.err.splitlines()
    assert line.startswith("speechmm fit: error: ")
    assert "cannot be written" in line
    assert "full/checkpoints/" in line
    assert not (shop.root / "runs" / "full" / "bundle").exists()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_recording_that_vanishes_during_the_training(shop, good, each_batch) -> None:
    cuts = [shop.cut(f"vanishing-{index}") for index in range(2)]
    manifest = shop.root / "vanishing.jsonl"
    write_cuts(cuts, manifest)
    each_batch(lambda *_: (shop.root / "audio" / "vanishing-1.wav").unlink(missing_ok=True))
    config = shop.config("vanishing", manifest, good[1], data={"num_workers": 1, "cache_gb": 0})
    outcome = shop.fit(config, "--trainer.max_epochs", 2)
    assert outcome.code == 2
    (line,) = (line for line in outcome.err.splitlines() if not line.startswith("epoch 1/2"))
    start, _, end = line.partition("vanishing-1.wav: ")
    assert start == f"speechmm fit: error: {shop.root / 'audio'}/"
    assert end == "there is no such file; expected an audio file. Check the path."


def test_validating_without_a_checkpoint(shop, good) -> None:
    line = shop.fit(shop.config("untrained", *good), command="validate").mistake
    best = shop.root / "runs" / "untrained" / "checkpoints" / "best.ckpt"
    assert f"{best}: cannot be read (No such file or directory)" in line


def test_checkpoints_that_do_not_fit(shop, good) -> None:
    config = shop.config("again", *good, trainer={"max_steps": 1})
    assert shop.fit(config).code == 0
    last = shop.root / "runs" / "again" / "checkpoints" / "last.ckpt"
    line = shop.fit(config, "--ckpt_path", last, "--model.network.d_model", 32).mistake
    assert f"{last}: does not fit the settings (size mismatch for " in line
    last.write_bytes(last.read_bytes()[:5000])
    line = shop.fit(config, "--ckpt_path", last, "--trainer.max_epochs", 2).mistake
    assert f"{last}: cannot be read" in line


def test_the_last_checkpoint_of_other_settings_is_put_aside(shop, good) -> None:
    config = shop.config("changed", *good, trainer={"max_steps": 1})
    assert shop.fit(config, "--ckpt_path", "last").code == 0
    assert shop.fit(config, "--ckpt_path", "last", "--model.network.d_model", 32).code == 0
    folder = shop.root / "runs" / "changed" / "checkpoints"
    assert {path.name for path in folder.iterdir()} >= {"last.ckpt", "earlier-last.ckpt"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stamp": "x"}'])
def test_a_stamp_of_another_version_is_no_finished_run(content: str, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.safetensors").touch()
    folder = RunFolder(tmp_path, {"trainer": {}}, [])
    (tmp_path / RECORD).write_text(content.replace("x", folder._stamp))
    assert folder.finished() is None


@pytest.mark.parametrize(
    "text",
    ["a: " + "9" * 5000, 'model: "a\\0b"', "a: " + "[" * 3000, "a: 2001-99-99", "\0", "? [a]\n: b"],
)
def test_settings_that_yaml_or_its_types_choke_on(shop, text: str) -> None:
    path = shop.root / "damaged.yaml"
    path.write_text(text, "utf-8")
    assert shop.fit(path).mistake.startswith("speechmm fit: error: ")
