"""What the pages say is true: commands run, links lead somewhere, the tree is the tree."""

import re
import shlex
import wave
from pathlib import Path

import pytest

from speechmm.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/*.md")])
BUNDLE = "recipes/synth/exp/tiny/bundle"  # as the tour names what make demo leaves behind
VOICE = "recipes/synth/exp/tiny/voice/bundle"
DATA = "recipes/synth/data"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "two-hours-of-my-language.md").read_text(encoding="utf-8")
ONE_PROCESS = (
    "--trainer.devices=1",
    "--trainer.strategy=auto",
)  # a second would start pytest again
QUICK = ("--trainer.max_steps=1", "--trainer.max_epochs=1", *ONE_PROCESS)
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def blocks(language: str, page: str = README) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def run_commands(page: str, capsys: pytest.CaptureFixture[str], leave_out: str = "#") -> None:
    """Runs the commands of a page, one step for each training."""
    text = "".join(blocks("sh", page)).replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.strip() and leave_out not in line]
    assert len(commands) > 5
    for line in commands:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "speechmm", line
        if arguments[0] == "fit":
            arguments += QUICK
        code = main(arguments)
        shown = capsys.readouterr()
        # 3: an untrained model's alignments are rightly flagged
        assert code in (0, 3), f"{line}\n{shown.out}\n{shown.err}"


def copy_configs(folder: Path) -> None:
    """The recipes' configs, where a reader of the project has them."""
    for config in ROOT.glob("recipes/*/*.yaml"):
        target = folder / config.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(config.read_bytes())


def write_recordings(folder: Path) -> None:
    """A reader's own recordings: tones, with texts beside them."""
    folder.mkdir()
    for index, word in enumerate(WORDS * 2):
        write_tone(folder / f"{index:02}.wav", 100 + 20 * index)
        (folder / f"{index:02}.txt").write_text(f"{word} {word}\n", encoding="utf-8")


def write_tone(path: Path, hertz: int, *, seconds: float = 1.5) -> None:
    """A square wave: enough for commands to run, nothing to recognise."""
    rate = 16000
    half_period = rate // hertz // 2
    samples = [3000 if (i // half_period) % 2 else -3000 for i in range(int(seconds * rate))]
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes(b"".join(s.to_bytes(2, "little", signed=True) for s in samples))


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make demo`` leaves behind, with an untrained model, and a reader's own recordings."""
    import torch

    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.models.bundle import save_bundle
    from speechmm.models.bundle_config import TrainingInfo
    from speechmm.models.speech_text import SpeechTextModel
    from speechmm.models.speech_text_config import SpeechTextConfig
    from speechmm.models.voice import VoiceConfig
    from speechmm.text.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("demo")
    copy_configs(folder)
    data = folder / DATA
    sizes = ["--train", "8", "--dev", "2", "--test", "3"]
    assert main(["prepare", "synth", str(data), *sizes]) == 0
    text_side = folder / "tokenizer.json"
    train = str(data / "train.jsonl.gz")
    assert main(["tokenizer", train, "--kind", "char", "--out", str(text_side)]) == 0
    tokenizer = Tokenizer.load(text_side)
    torch.manual_seed(0)
    sizes_of_model = SpeechTextConfig(d_model=16, heads=2, ff_dim=16, encoder_layers=1)
    features = LogMelConfig()
    for path, voice in ((BUNDLE, None), (VOICE, VoiceConfig())):
        model = SpeechTextModel(
            sizes_of_model, vocab_size=tokenizer.vocab_size, n_mels=features.n_mels, voice=voice
        )
        (folder / path).parent.mkdir(parents=True)
        save_bundle(folder / path, model, tokenizer, features, training=TrainingInfo(seed=0))
    write_recordings(folder / "my-recordings")
    write_tone(folder / "call.wav", 220, seconds=3.0)
    return folder


def test_the_tour_runs(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(demo_folder)
    run_commands(README, capsys)


def test_the_tutorial_runs(
    make_whisper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    copy_configs(tmp_path)
    write_recordings(tmp_path / "my-recordings")
    make_whisper(tmp_path / "whisper-base", WORDS, n_mels=80)
    monkeypatch.chdir(tmp_path)
    run_commands(TUTORIAL, capsys, leave_out="--learn")  # the tour has it, and it takes its time
    assert (tmp_path / "exp/mine/report/report.html").is_file()
    assert list((tmp_path / "exp/mine/frames").iterdir())
    assert list((tmp_path / "exp/mine/textgrids").glob("*.TextGrid"))


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, demo_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(demo_folder)
    exec(compile(code, "README.md", "exec"), {})


def test_make_targets_exist():
    named = set(re.findall(r"^\$ make (\w+)", README, re.MULTILINE))
    assert named
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), link
