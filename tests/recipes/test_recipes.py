"""Every recipe has what a recipe has, and its commands work on a tiny corpus in its own layout.

folder and kerstin run always: between them they have every form of command. The others take a
minute each and run where the environment variable SPEECHMM_ALL_RECIPES is set.
"""

import contextlib
import json
import math
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
import yaml

from speechmm.cli.main import main
from speechmm.data.manifest import cut_text, read_cuts
from speechmm.errors import ConfigError
from speechmm.text.espeak.library import Espeak, load_espeak

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.parent for path in ROOT.glob("recipes/*/run.sh"))
ON_GPU = sorted(ROOT.glob("recipes/*/*.gpu.yaml"))
OTHERS = {
    *ON_GPU,
    *ROOT.glob("recipes/*/ablation.yaml"),
    *ROOT.glob("recipes/universal/*.yaml"),  # settings of align --learn
}
CONFIGS = sorted(set(ROOT.glob("recipes/*/*.yaml")) - OTHERS)
ALL_VARIABLE = "SPEECHMM_ALL_RECIPES"
RATE = 16_000  # Hz, of tones
SECONDS_A_LETTER = 0.08  # of tones: about as fast as people read
WORST_WER = 3.0  # an untrained model may write more than was said, but not without end

Record = Callable[[Path, str], None]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "recipes"))


def test_every_folder_is_a_recipe():
    folders = [path for path in ROOT.glob("recipes/*/") if any(path.glob("*.*"))]
    assert sorted(folders) == RECIPES
    assert set(CASES) <= {path.name for path in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_is_one_page_of_commands(recipe: Path):
    script = recipe / "run.sh"
    assert script.stat().st_mode & stat.S_IXUSR, "chmod +x"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    commands = [line for line in lines if line.strip() and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert len(lines) < 60
    if any(command.startswith("speechmm fit") for command in commands):
        assert "source recipes/gpu.sh" in commands
    assert not any("python" in line for line in lines)
    assert (recipe / "README.md").is_file()
    assert f"recipes/{recipe.name}/run.sh" in (recipe / "README.md").read_text(encoding="utf-8")
    kept = [path for path in recipe.rglob("*.py") if path.parts[-2] not in ("data", "exp")]
    assert not kept


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_a_config_is_of_its_recipe(config: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "--config", str(config), "--print_config"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    recipe = f"recipes/{config.parent.name}"
    data = settings["data"]
    for path in (*data["train"], *data["dev"], data["tokenizer"]):
        assert path.startswith(f"{recipe}/data/")
    assert settings["trainer"]["default_root_dir"] == f"{recipe}/exp/{config.stem}"


@pytest.mark.parametrize("beside", ON_GPU, ids=name_of)
def test_settings_for_a_gpu_stand_beside_a_config(beside: Path, capsys: pytest.CaptureFixture[str]):
    config = beside.with_name(beside.name.replace(".gpu.yaml", ".yaml"))
    both = ["--config", str(config), "--config", str(beside)]
    assert main(["fit", *both, "--print_config"]) == 0
    with_gpu = yaml.safe_load(capsys.readouterr().out)
    assert main(["fit", "--config", str(config), "--print_config"]) == 0
    without = yaml.safe_load(capsys.readouterr().out)
    trainer = with_gpu["trainer"]
    assert (trainer["accelerator"], trainer["devices"], trainer["strategy"]) == ("gpu", 1, "auto")
    assert trainer["precision"] == "bf16-mixed"
    processes = without["trainer"]["devices"] if without["trainer"]["devices"] != "auto" else 1
    on_cpu = without["data"]["batch_seconds"] * processes
    assert with_gpu["data"]["batch_seconds"] >= on_cpu
    assert with_gpu["model"] == without["model"]


def test_every_config_for_a_whole_training_has_settings_for_a_gpu():
    whole = {path for path in CONFIGS if path.stem not in ("smoke", "lm")}
    assert {path.with_suffix(".gpu.yaml") for path in whole} == set(ON_GPU)


@pytest.mark.parametrize(
    ("listed", "visible", "settings"),
    [
        ("echo 'GPU 0: H100'", None, "--config recipes/an4/small.gpu.yaml"),
        ("echo 'GPU 0: H100'", "", ""),
        ("echo 'GPU 0: H100'", "-1", ""),
        ("echo 'GPU 0: H100'", "0", "--config recipes/an4/small.gpu.yaml"),
        ("exit 9", None, ""),
    ],
)
def test_a_gpu_is_used_where_there_is_one(
    listed: str, visible: str | None, settings: str, tmp_path: Path
):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{listed}\n", encoding="utf-8")
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    script = 'set -euo pipefail; source recipes/gpu.sh; gpu_settings "$1"; echo "${gpu[@]}"'
    for config, expected in (("recipes/an4/small.yaml", settings), ("recipes/an4/smoke.yaml", "")):
        done = subprocess.run(
            ["bash", "-c", script, "-", config],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=environment,
        )
        assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("finetune", True),
        ("continue --trainer.max_epochs 3", True),
        ("finetune --model.pretrained whisper-base", False),
        ("continue --init_from=exp/bundle", False),
        ("continue --init_from universal", True),
        ("finetune --init_from=universal --model.pretrained whisper-base", False),
        ("whisper", True),
        ("whisper --model.pretrained=whisper-base", False),
        ("small", False),
    ],
)
def test_fine_tuning_asks_for_what_it_starts_from(words: str, refused: bool):
    done = needs_start("recipes/an4/whisper.yaml", words)
    assert done.returncode == (2 if refused else 0)
    assert ("found no starting point; expected" in done.stderr) is refused


def needs_start(config: str, words: str) -> "subprocess.CompletedProcess[str]":
    script = f"set -euo pipefail; source recipes/gpu.sh; config={config}; needs_start {words}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("recipe", "more", "refused"),
    [
        ("folder", "", True),
        ("folder", "--model.pretrained_decoder de", False),
        ("folder", "--model.pretrained_decoder=de", False),
        ("kerstin", "", False),
    ],
)
def test_going_on_with_a_decoder_asks_for_its_language(recipe: str, more: str, refused: bool):
    words = f"whisper --model.pretrained w {more}"
    done = needs_start(f"recipes/{recipe}/whisper.yaml", words)
    assert done.returncode == (2 if refused else 0)
    assert ("found no language of the decoder" in done.stderr) is refused


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("small", "--kind char|tokenizer.json|--beam 4|"),
        ("small --init_from b", "--kind char|tokenizer.json|--beam 4|"),
        ("finetune --model.pretrained w", "--kind char|tokenizer.json|--beam 10 --ctc-weight 1|"),
        ("scratch", "--kind char|letters.json|--beam 10 --ctc-weight 0.5|"),
        ("whisper --model.pretrained w", "--kind bpe --pieces-of w|pieces.json|--beam 4|"),
        ("whisper --model.pretrained=v/w", "--kind bpe --pieces-of v/w|pieces.json|--beam 4|"),
        (
            "whisper --init_from=universal --trainer.devices 1 --model.pretrained w",
            "--kind bpe --pieces-of w|pieces.json|--beam 4|",
        ),
        (
            "whisper --init_from v/b",
            "--kind char|pieces.json|--beam 4|"
            "--model.pretrained_decoder null --data.tokenizer v/b/tokenizer.json",
        ),
    ],
)
def test_a_config_may_want_other_pieces_and_another_search(words: str, found: str):
    script = (
        "set -euo pipefail; source recipes/gpu.sh; pieces=(--kind char); search=(--beam 4); "
        f"tokenizer=tokenizer.json; by_config {words}; "
        'echo "${pieces[*]}|$tokenizer|${search[*]}|${goes_on[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == found


@pytest.fixture(scope="module")
def record() -> Record:
    """``record(path, text)``: the text said by espeak-ng, or a tone as long where there is none."""
    espeak: Espeak | None = None
    with contextlib.suppress(ConfigError):
        espeak = load_espeak()

    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if espeak is not None:
            speech = espeak.synthesize(text)
            soundfile.write(path, speech.waveform, speech.sample_rate)
            return
        time = np.arange(int(len(text) * SECONDS_A_LETTER * RATE)) / RATE
        soundfile.write(path, 0.1 * np.sin(2 * math.pi * (200 + 10 * len(text)) * time), RATE)

    return write


def sentences(count: int, words: int = 4) -> list[str]:
    """Sentences of invented words, the same each time."""
    rng = Random(0)

    def word() -> str:
        return "".join(
            rng.choice("bdfglmnprstvw") + rng.choice("aeiou") for _ in range(rng.randint(1, 3))
        )

    return [" ".join(word() for _ in range(words)) for _ in range(count)]


def make_folder(root: Path, record: Record) -> None:
    for i, text in enumerate(sentences(12)):
        path = root / f"speaker{i % 4}" / f"take {i}.wav"
        record(path, text)
        path.with_suffix(".txt").write_text(f"{text.capitalize()}.\n", encoding="utf-8")
    record(root / "speaker0" / "no text.wav", "this is left out")


def make_kerstin(root: Path, record: Record) -> None:
    rows = ["de_0000|Diese Aufnahme fehlt."]
    for i, words in enumerate(sentences(12), start=1):
        text = f"Größe {words}, schön!"
        record(root / "wavs" / f"de_{i:04}.flac", text)
        rows.append(f"de_{i:04}|{text}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_ljspeech(root: Path, record: Record) -> None:
    rows = []
    for i, text in enumerate(sentences(12)):
        record(root / "LJSpeech-1.1" / "wavs" / f"LJ001-{i:04}.wav", f"{text} ten")
        rows.append(f"LJ001-{i:04}|{text.capitalize()} 10.|{text.capitalize()} ten.")
    table = root / "LJSpeech-1.1" / "metadata.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_librispeech(root: Path, record: Record) -> None:
    texts = iter(sentences(100, words=8))  # 500 pieces want that many words
    sizes = {"train-clean-5": (6, 12), "dev-clean": (1, 2), "test-clean": (1, 2)}
    sizes["test-other"] = (1, 2)
    suffixes = {"dev-clean": "wav", "test-other": "wav"}
    for number, (part, (speakers, utterances)) in enumerate(sizes.items(), start=1):
        for speaker in range(number * 10, number * 10 + speakers):
            chapter = root / "LibriSpeech" / part / f"{speaker}" / "7"
            lines = []
            for i in range(utterances):
                text = next(texts)
                record(chapter / f"{speaker}-7-{i:04}.{suffixes.get(part, 'flac')}", text)
                lines.append(f"{speaker}-7-{i:04} {text.upper()}\n")
            (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines), encoding="utf-8")


def make_kaldi(root: Path, record: Record) -> None:
    texts = iter(sentences(12))
    for split, count in (("train", 9), ("test", 3)):
        files: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": [], "segments": []}
        for i in range(count):
            speaker, text = f"{split}{i % 3}", next(texts)
            utterance = f"{speaker}-{i:03}"
            audio = root / "audio" / f"{utterance}.wav"
            record(audio, text)
            seconds = soundfile.info(audio).duration
            files["wav.scp"].append(f"rec-{utterance} sox '{audio}' -t wav - |")
            files["segments"].append(f"{utterance} rec-{utterance} 0.0 {seconds - 0.01:.2f}")
            files["text"].append(f"{utterance} {text}")
            files["utt2spk"].append(f"{utterance} {speaker}")
        (root / split).mkdir()
        for name, lines in files.items():
            (root / split / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe run on a tiny corpus, and what it must leave behind."""

    make: Callable[[Path, Record], None]
    scored: dict[str, str]
    """Report folder of every split that is scored."""
    textgrids: dict[str, str]
    """Folder of TextGrids of every split that is aligned."""
    durations: tuple[str, ...] = ()
    """Splits with durations."""
    skipped: int = 0
    """Damaged items of the corpus."""
    damaged: bool = False
    """Whether the recipe checks that damaged transcripts are noticed."""
    always: bool = False
    """Run where no environment variable asks for it, too."""
    script: str = ""
    """The recipe whose script it runs, where that is another."""


TEST_ONLY = {"scored": {"test": "report"}, "textgrids": {"test": "textgrids"}}
SPLITS = ("train", "dev", "test")
VOICE = {
    "scored": {"test": "report"},
    "textgrids": {split: f"textgrids/{split}" for split in SPLITS},
    "durations": SPLITS,
}
CASES = {
    "folder": Case(make=make_folder, **TEST_ONLY, skipped=1, always=True),
    "kerstin": Case(make=make_kerstin, **VOICE, skipped=1, damaged=True, always=True),
    "kaldi": Case(make=make_kaldi, **TEST_ONLY, script="folder"),
    "ljspeech": Case(make=make_ljspeech, **VOICE),
    "librispeech": Case(
        make=make_librispeech,
        scored={split: f"report-{split}" for split in ("test", "test-other")},
        textgrids={split: f"textgrids/{split}" for split in ("test", "test-other")},
    ),
}


def run_recipe(recipe: str, *arguments: str, folder: Path) -> str:
    """Runs the copy of a recipe in ``folder`` from somewhere else; returns what it printed."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(
        [folder / "recipes" / recipe / "run.sh", *arguments],
        cwd=folder / "elsewhere",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_a_recipe_runs(name: str, tmp_path: Path, record: Record):
    case = CASES[name]
    everything = bool(os.environ.get(ALL_VARIABLE))
    if not case.always and not everything:
        pytest.skip(f"takes a minute; set {ALL_VARIABLE}=1 to run every recipe")
    recipe = tmp_path / "recipes" / name
    ignored = shutil.ignore_patterns("data", "exp")
    shutil.copytree(ROOT / "recipes" / name, recipe, ignore=ignored)
    shutil.copy(ROOT / "recipes" / "gpu.sh", recipe.parent)
    if case.script:
        (tmp_path / "recipes" / case.script).mkdir()
        shutil.copy(ROOT / "recipes" / case.script / "run.sh", tmp_path / "recipes" / case.script)
    corpus = tmp_path / "elsewhere" / "my corpus"
    corpus.mkdir(parents=True)
    case.make(corpus, record)
    arguments = ("my corpus", f"recipes/{name}/smoke.yaml", "--data.num_workers=0")
    printed = run_recipe(name, *arguments, folder=tmp_path)
    run = recipe / "exp" / "smoke"
    assert f"recipes/{name}/exp/smoke/report" in printed

    prepared = json.loads((recipe / "data" / "prepare.json").read_text(encoding="utf-8"))
    assert len(prepared["skipped"]) == case.skipped
    for part in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert (run / "bundle" / part).is_file()
    for split, folder in case.scored.items():
        check_scored(split, recipe / "data", run, run / folder)
    for split, folder in case.textgrids.items():
        found = {path.stem for path in (run / folder).glob("*.TextGrid")}
        assert found == set(texts_of(recipe / "data", split))
    for split in case.durations:
        check_durations(split, recipe / "data", run / "durations" / split)
    sections = (run / "RESULTS.md").read_text(encoding="utf-8").count("<!-- begin")
    assert sections == len(case.scored) + case.damaged

    if everything:  # a rerun leaves the manifests and the model alone
        before = modification_times(recipe / "data") | modification_times(run / "bundle")
        run_recipe(name, *arguments, folder=tmp_path)
        after = modification_times(recipe / "data") | modification_times(run / "bundle")
        assert after == before


def texts_of(data: Path, split: str) -> dict[str, str]:
    return {cut.id: cut_text(cut) for cut in read_cuts(data / f"{split}.jsonl.gz")}


def rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_scored(split: str, data: Path, run: Path, folder: Path) -> None:
    texts = texts_of(data, split)
    assert {row["id"] for row in rows_of(run / f"{split}.jsonl")} == set(texts)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert 0.0 <= report["wer"]["value"] <= WORST_WER
    assert report["utterances"] == len(texts)
    assert report["checkpoint_sha256"]
    assert "</html>" in (folder / "report.html").read_text(encoding="utf-8")
    aligned = run / f"{split}-aligned.jsonl"
    if aligned.exists():
        assert {row["id"] for row in rows_of(aligned)} == set(texts)


def check_durations(split: str, data: Path, folder: Path) -> None:
    """Frames of 10 ms add up to the recording, and the labels are the text's characters."""
    rows = [line.split("|") for line in (folder / "durations.txt").read_text("utf-8").splitlines()]
    cuts = {cut.id: cut for cut in read_cuts(data / f"{split}.jsonl.gz")}
    assert {row[0] for row in rows} == set(cuts)
    for name, labels, frames in rows:
        numbers = [int(number) for number in frames.split()]
        assert len(labels.split()) == len(numbers)
        assert sum(numbers) == pytest.approx(cuts[name].duration * 100, abs=1)
        assert np.load(folder / f"{name}.npy").tolist() == numbers
