"""prepare, transcribe, align and score find the same recordings, texts and ids in a folder."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from speechmm.cli.main import main
from speechmm.data.manifest import cut_text, read_cuts
from speechmm.models.bundle import Bundle

TEXTS = {
    "plain.wav": ("plain.txt", "ab cd", "utf-8"),
    "my take 1 (b).wav": ("my take 1 (b).lab", "ef gh", "utf-8-sig"),
    "upper.WAV": ("upper.TXT", "cd ef", "utf-16"),
    unicodedata.normalize("NFD", "café.wav"): ("café.txt", "ba", "utf-8"),
    "double.wav": ("double.wav.txt", "hg fe", "utf-8"),
    "readme.wav": ("readme.txt", "fa ce", "utf-8"),
    "wav/s1/tree.wav": ("txt/s1/tree.txt", "dad", "utf-8"),
    "a/x.wav": ("a/x.txt", "ab", "utf-8"),
    "b/x.wav": ("b/x.txt", "gh ab", "utf-8"),
    "day2/linked.wave": ("day2/linked.txt", "fed", "utf-8"),
}
IDS = {
    "plain": "ab cd",
    "my take 1 (b)": "ef gh",
    "upper": "cd ef",
    unicodedata.normalize("NFD", "café"): "ba",
    "double": "hg fe",
    "readme": "fa ce",
    "tree": "dad",
    "a/x": "ab",
    "b/x": "gh ab",
    "linked": "fed",
}
NAMED = ("phone.m4a", "silent.wav")
"""A recording of a kind that is not read, and one without text."""


@pytest.fixture
def corpus(
    tone_bundle: Bundle, speak: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.setattr("speechmm.audio.files.media_installed", lambda: False)
    monkeypatch.chdir(tmp_path)
    root = Path("corpus")
    Path("real").mkdir()
    root.mkdir()
    (root / "day2").symlink_to(Path("../real"))
    (root / "day2" / "back").symlink_to(Path("../corpus"))
    for audio, (name, text, encoding) in TEXTS.items():
        path = root / audio
        speak(text).save(path.with_suffix(".wav"))
        path.with_suffix(".wav").rename(path)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"{text}\r\n".encode(encoding))
    speak("ab").save(root / "silent.wav")
    (root / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (root / "phone.txt").write_text("ab")
    (root / ".hidden.wav").write_bytes(b"")
    return root


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def rows(path: str) -> dict[str, dict]:
    lines = Path(path).read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def skipped(capsys: pytest.CaptureFixture) -> set[str]:
    lines = capsys.readouterr().err.splitlines()
    items = [line.split(": ")[1] for line in lines if line.startswith("skipped: ")]
    assert len(items) == len(set(items))
    return {Path(item).name for item in items}


def test_a_folder_is_the_same_to_every_command(corpus: Path, capsys: pytest.CaptureFixture):
    assert call("prepare", "folder", corpus, "out", "--dev", 0, "--test", 0) == 3
    assert skipped(capsys) == set(NAMED)
    cuts = {cut.id: cut for cut in read_cuts("out/train.jsonl.gz")}
    assert {id: cut_text(cut) for id, cut in cuts.items()} == IDS

    model = ("--model", "tones")
    search = ("--decoder", "ctc", "--format", "jsonl", "--out", "heard.jsonl")
    assert call("transcribe", corpus, *model, *search) == 3
    assert skipped(capsys) == {"phone.m4a"}  # what has no text can be transcribed all the same
    heard = rows("heard.jsonl")
    assert heard.pop("silent")["text"] == "ab"
    assert {id: row["text"] for id, row in heard.items()} == IDS

    assert call("align", corpus, *model, "--format", "jsonl", "--out", "aligned.jsonl") == 3
    assert skipped(capsys) == set(NAMED)
    aligned = rows("aligned.jsonl")
    words = {id: [word["label"] for word in row["units"]["word"]] for id, row in aligned.items()}
    assert {id: " ".join(labels) for id, labels in words.items()} == IDS

    for id, cut in cuts.items():
        place = Path(cut.recording.sources[0].source)
        assert place == Path(heard[id]["audio"]).absolute() == Path(aligned[id]["audio"]).absolute()

    assert call("score", "heard.jsonl", "out/train.jsonl.gz", "--out", "report") in (0, 3)
    report = json.loads(Path("report/report.json").read_text("utf-8"))
    assert report["wer"]["value"] == 0.0
    assert report["utterances"] == len(IDS)


def test_files_named_one_by_one_have_the_same_ids_and_texts(corpus: Path):
    files = [corpus / name for name in TEXTS if name.count("/") == 0]
    out = ("--format", "jsonl", "--out", "aligned.jsonl")
    for file in files:
        assert call("align", file, "--model", "tones", *out) == 0
        ((id, row),) = rows("aligned.jsonl").items()
        assert " ".join(word["label"] for word in row["units"]["word"]) == IDS[id]


def test_the_manifest_gives_what_the_folder_gives(corpus: Path):
    assert call("prepare", "folder", corpus, "out", "--dev", 0, "--test", 0) == 3
    for source, code in ((corpus, 3), ("out/train.jsonl.gz", 0)):
        out = ("--format", "textgrid", "--out", f"{Path(source).name}.grids")
        assert call("align", source, "--model", "tones", *out) == code
    names = [
        {path.name for path in Path(f"{name}.grids").iterdir()}
        for name in ("corpus", "train.jsonl.gz")
    ]
    assert names[0] == names[1]
    assert len(names[0]) == len(IDS)


def test_a_folder_of_audio_that_must_be_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("speechmm.audio.files.media_installed", lambda: False)
    Path("phone").mkdir()
    Path("phone/a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    Path("phone/a.txt").write_text("hi")
    for command in (("prepare", "folder", "phone", "out"), ("transcribe", "phone", "--model", "m")):
        assert call(*command) == 2
        assert 'convert it: "ffmpeg -i a.m4a -vn a.flac"' in capsys.readouterr().err
