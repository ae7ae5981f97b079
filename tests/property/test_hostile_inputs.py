"""Damaged inputs give an answer or a SpeechmmError, whatever is read; tools/fuzz.py does more of them."""

import gzip
import json
import os
import shutil
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from speechmm.alignments import read_alignments
from speechmm.alignments.subtitle_files import read_subtitles
from speechmm.cli.main import COMMANDS
from speechmm.errors import CheckpointError, SpeechmmError
from speechmm.evaluation.system_table import page, read_rows
from speechmm.evaluation.text_sets import read_text_set
from speechmm.files.text import open_lines, read_text
from speechmm.text.tokenizer import SPACE, Tokenizer

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from fuzzing import attack, mutations, world
from fuzzing.attack import Case, make_input, traceback_place
from fuzzing.kills import contents
from fuzzing.long_lines import subjects
from fuzzing.targets import Target, all_targets

INPUTS = 40  # of each reader
READERS = [target for target in all_targets() if target.reader is not None]
LEFT_TO_THE_TOOL = {"read:checkpoint", "read:bundle", "read:features", "read:metrics"}
"""Need a training, or Lightning."""


def test_every_command_is_attacked() -> None:
    attacked = {target.argv[0] for target in all_targets() if target.argv}
    assert attacked == set(COMMANDS) - {"test"}, "test is validate on another split"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Valid files of every text format and recordings of every container, at the world's places."""
    root = tmp_path_factory.mktemp("world")
    world.make_texts(root / "texts")
    world.make_audio(root / "audio")
    shutil.copytree(root / "texts" / "report", root / "report")
    shutil.copy(root / "texts" / "char.json", root / "char.json")
    return root


@pytest.mark.filterwarnings("ignore")  # of NumPy and libraries, about what they are given
@pytest.mark.parametrize(
    "target", [one for one in READERS if one.name not in LEFT_TO_THE_TOOL], ids=lambda one: one.name
)
def test_readers_refuse_in_one_line(target: Target, seeds: Path, tmp_path: Path) -> None:
    assert target.reader is not None
    refused = 0
    for number in range(INPUTS):
        case = Case(seed=0, target=target, number=number)
        folder = tmp_path / str(number)
        path, what = make_input(case, seeds, folder, places=("empty", "folder", "loop", "missing"))
        try:
            target.reader(path)
        except SpeechmmError as error:
            refused += 1
            assert str(error).strip(), what
    assert refused > 0 or target.name in ("read:normalize", "read:records")


LINES = [one for one in subjects() if one.name != "metrics"]


@pytest.mark.parametrize("subject", LINES, ids=lambda one: one.name)
def test_long_lines_of_one_sign_are_read_or_refused(subject, tmp_path: Path) -> None:
    path = tmp_path / "in" / subject.file
    path.parent.mkdir()
    for sign in ("(", "9", " ", "<", "\u0301\u0316"):
        path.write_text(subject.filled(sign, 2000), "utf-8")
        try:
            subject.read(path)
        except SpeechmmError as error:
            assert len(str(error)) < 2000, "the message holds the whole line"


def test_the_same_seed_gives_the_same_input(seeds: Path, tmp_path: Path) -> None:
    target = READERS[0]

    def make(number: int, turn: str) -> Path:
        case = Case(seed=1, target=target, number=number)
        return make_input(case, seeds, tmp_path / f"{number}-{turn}")[0]

    pairs = [(make(number, "a"), make(number, "b")) for number in range(10)]
    same = [a.read_bytes() == b.read_bytes() for a, b in pairs if a.is_file() and b.is_file()]
    assert len(same) > 5 and all(same)
    original = [path.read_bytes() for seed in target.seeds for path in seeds.glob(seed)]
    changed = [a.read_bytes() not in original for a, _ in pairs if a.is_file()]
    assert sum(changed) > 5


@pytest.mark.parametrize("data", [b"", b"a b\n", b'{"a": [1, {"b": null}]}', bytes(range(256))])
def test_all_damages_take_any_bytes(data: bytes) -> None:
    for number in range(100):
        assert isinstance(mutations.damage(data, Random(number)), bytes)
        assert isinstance(mutations.damage(gzip.compress(data), Random(number)), bytes)


def test_an_endless_device_and_a_bomb_are_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        file.write(b"a" * 20_000_000)
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, reason in (("bomb.gz", "unpacks to more"), ("zero", "no end")):
        with pytest.raises(SpeechmmError, match=reason):
            read_text(tmp_path / name)
    with open_lines(tmp_path / "bomb.gz") as lines, pytest.raises(OSError, match="unpacks to more"):
        for _ in lines:
            pass


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading_end, writing_end = os.pipe()
    os.write(writing_end, gzip.compress(b"one\ntwo\n"))
    os.close(writing_end)
    with open_lines(Path(f"/dev/fd/{reading_end}")) as lines:
        assert list(lines) == [b"one\n", b"two\n"]
    os.close(reading_end)


def test_checkpoints_are_compared_by_their_values(tmp_path: Path) -> None:
    name = "".join(["a", "b"])
    weights = {"w": torch.arange(4.0), "b": torch.zeros(2, dtype=torch.bfloat16)}
    found = []
    for number, names in enumerate(([name, name], [name, "".join(["a", "b"])], [name, "c"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        torch.save({"state_dict": weights, "names": names}, folder / "last.ckpt")
        found.append((contents(folder), (folder / "last.ckpt").read_bytes()))
    assert found[0][1] != found[1][1]  # the same string, once and twice
    assert found[0][0] == found[1][0] != found[2][0]


def test_what_an_output_that_is_a_link_leads_to_may_change(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    target = Target(name="x", seeds=(), writes_input=True)
    assert tmp_path.resolve() / "nothing" in attack._may_change(target, tmp_path / "link", tmp_path)


def test_a_traceback_is_told_by_its_last_place_in_the_toolkit() -> None:
    said = (
        "Traceback (most recent call last):\n"
        '  File "/x/speechmm/cli/main.py", line 1, in main\n    f()\n'
        '  File "/x/speechmm/data/a.py", line 12, in read\n    g()\n'
        '  File "/lib/json/decoder.py", line 3, in decode\n    h()\n'
        "ValueError: no\n"
    )
    assert traceback_place(said) == "ValueError at data/a.py:12 read"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ctm", "u0 1 0.0 1e300 go\n"),
        ("a.ctm", "u0 1 nan 1.0 go\n"),
        ("a.stm", "u0 1 ann 0 inf go\n"),
        ("a.jsonl", '{"id": "u0", "duration": 1e300, "units": {"word": []}}\n'),
    ],
)
def test_times_that_no_recording_has_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(SpeechmmError):
        read_text_set(tmp_path / name) if name == "a.stm" else read_alignments(tmp_path / name)


def test_a_clock_of_many_digits_is_no_cue(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n" + "9" * 5000 + ":00:01,0 --> 00:00:02,0\ngo\n", "utf-8")
    assert read_subtitles(tmp_path / "a.srt") == []


def test_a_report_without_intervals_is_compared(tmp_path: Path) -> None:
    found = json.loads(world.TEXT_FILES["report/report.json"])
    del found["wer"]["ci95"], found["cer"]["ci95"]
    (tmp_path / "report.json").write_text(json.dumps(found), "utf-8")
    assert "50.00" in page(read_rows([tmp_path]))


def test_a_tokenizer_without_a_space_is_refused(seeds: Path, tmp_path: Path) -> None:
    found = json.loads((seeds / "char.json").read_text("utf-8"))
    found["pieces"].remove(SPACE)
    (tmp_path / "t.json").write_text(json.dumps(found), "utf-8")
    with pytest.raises(CheckpointError, match="no space among them"):
        Tokenizer.load(tmp_path / "t.json")
