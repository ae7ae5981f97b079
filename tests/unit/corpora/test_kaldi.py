"""`prepare kaldi`: data folders, segments, and commands that are read but never run."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmm.data.corpora import kaldi
from speechmm.data.corpora.kaldi_pipes import PipeError, decoded_file, picked_channel
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import audio_path, load_waveform
from speechmm.errors import ManifestError


def prepare(root: Path, **options):
    report = SkipReport()
    return kaldi.prepare(root, report, **options), report


def make_folder(folder: Path, record, names, *, command="{}"):
    folder.mkdir(parents=True)
    for name in names:
        record(folder.parent / "audio" / f"{name}.wav")
    scp = (f"{n} " + command.format(folder.parent / "audio" / f"{n}.wav") for n in names)
    (folder / "wav.scp").write_text("\n".join(scp) + "\n")
    (folder / "text").write_text("".join(f"{n} SAYS {n.upper()}\n" for n in names))
    (folder / "utt2spk").write_text("".join(f"{n} {n[0]}\n" for n in names))


def ids(splits):
    return {split: [cut.id for cut in cuts] for split, cuts in splits.items()}


def test_three_data_folders(tmp_path, record):
    make_folder(tmp_path / "train", record, ["a1", "a2", "b1"])
    make_folder(tmp_path / "dev", record, ["c1"], command="sph2pipe -f wav -p -c 1 {} |")
    make_folder(tmp_path / "test", record, ["d1"], command="sox {} -t wav -r 16k -c 1 - |")
    splits, report = prepare(tmp_path)
    assert ids(splits) == {"train": ["a1", "a2", "b1"], "dev": ["c1"], "test": ["d1"]}
    assert splits["train"][2].supervisions[0].speaker == "b"
    assert splits["dev"][0].supervisions[0].text == "SAYS C1"
    assert not report.items


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (["train", "valid", "eval"], ["train", "valid", "eval"]),
        (["train_clean", "dev_clean", "test93"], ["train_clean", "dev_clean", "test93"]),
        (["train_nodev", "train_dev", "test"], ["train_nodev", "train_dev", "test"]),
        (["train", "dev", "test", "test_other"], ["train", "dev", "test"]),
    ],
)
def test_names_of_data_folders(tmp_path, record, names, used):
    for i, name in enumerate(names):
        make_folder(tmp_path / name, record, [f"{i}x"])
    splits, _ = prepare(tmp_path)
    assert ids(splits) == {
        split: [f"{names.index(name)}x"]
        for split, name in zip(("train", "dev", "test"), used, strict=True)
    }


def test_dev_is_taken_from_train_by_speaker(tmp_path, record):
    make_folder(tmp_path / "train", record, ["a1", "a2", "b1", "b2", "c1", "c2"])
    make_folder(tmp_path / "test", record, ["d1"])
    splits, _ = prepare(tmp_path)
    assert len(splits["dev"]) == 2
    speakers = {cut.supervisions[0].speaker for cut in splits["dev"]}
    assert len(speakers) == 1
    assert speakers.isdisjoint(cut.supervisions[0].speaker for cut in splits["train"])
    splits, _ = prepare(tmp_path, dev=0.0)
    assert sorted(splits) == ["test", "train"]


def test_one_data_folder(tmp_path, record):
    make_folder(tmp_path / "data", record, [f"{s}1" for s in "abcdefghij"])
    splits, _ = prepare(tmp_path / "data")
    assert [len(splits[split]) for split in ("train", "dev", "test")] == [8, 1, 1]


def test_segments(tmp_path, record):
    folder = tmp_path / "train"
    folder.mkdir()
    record(tmp_path / "long tape.wav", 3.0)
    (folder / "wav.scp").write_text(f"tape {tmp_path / 'long tape.wav'}\n")
    (folder / "segments").write_text(
        "u1 tape 0.0 1.0\nu2 tape 1.0 2.5\nu3 tape 2.0 -1\nu4 tape 2.5 3.2\n"
        "u5 tape 2.5 9.0\nu6 tape 4 5\nu7 gone 0 1\nu8 tape x 1\nu9 tape 2 1\n"
    )
    (folder / "text").write_text("".join(f"u{i} word {i}\n" for i in range(1, 10)))
    splits, report = prepare(tmp_path, dev=0.0, test=0.0)
    found = [(cut.id, cut.start, round(cut.duration, 3)) for cut in splits["train"]]
    assert found == [("u1", 0, 1), ("u2", 1, 1.5), ("u3", 2, 1), ("u4", 2.5, 0.5)]
    reasons = dict(report.items[:])
    assert "6.000 s after the recording" in reasons["u5"]
    assert "does not start within" in reasons["u6"]
    assert "'gone' is not in wav.scp" in reasons["u7"] or "is not in segments" in reasons["u7"]
    assert "u8" in reasons
    assert "expected a positive number" in reasons["u9"]


def test_relative_paths(tmp_path, record, monkeypatch):
    make_folder(tmp_path / "egs" / "data" / "train", record, ["a", "b", "c"])
    folder = tmp_path / "egs" / "data" / "train"
    (folder / "wav.scp").write_text("a ../audio/a.wav\nb audio/b.wav\nc data/audio/c.wav\n")
    splits, report = prepare(tmp_path / "egs" / "data", dev=0.0, test=0.0)
    assert ids(splits) == {"train": ["a", "b", "c"]}
    assert all(audio_path(cut).is_absolute() for cut in splits["train"])
    assert not report.items


def test_what_cannot_be_used_is_named(tmp_path, record):
    make_folder(tmp_path / "train", record, ["a", "b", "c", "d", "e"])
    record(tmp_path / "audio" / "stereo.wav")
    with (tmp_path / "train" / "wav.scp").open("a") as scp:
        scp.write("ark /x/raw.ark:1234\nmixed sox a.wav -t wav - reverb | rm -rf / |\nlonely\n")
        scp.write(f"stereo sph2pipe -f wav -c 2 {tmp_path / 'audio' / 'stereo.wav'} |\n")
    with (tmp_path / "train" / "text").open("a") as text:
        text.write("ark one\nmixed two\nstereo three\nnowhere four\na again\n")
    lines = (tmp_path / "train" / "text").read_text().replace("b SAYS B", "b")
    (tmp_path / "train" / "text").write_text(lines.replace("c SAYS C\n", ""))
    (tmp_path / "audio" / "d.wav").unlink()
    splits, report = prepare(tmp_path, dev=0.0, test=0.0)
    assert ids(splits) == {"train": ["a", "e"]}
    reasons = dict(report.items)
    for item, reason in {
        "ark": "archive",
        "mixed": "commands are never run",
        "lonely": "id alone",
        "stereo": "channel 1 was asked for",
        "nowhere": "is not in wav.scp",
        "a": "was on an earlier line",
        "b": "transcript is empty",
        "c": "has no line for it",
        "d": "no such file",
    }.items():
        assert reason in reasons[item]
    assert len(reasons) == 9


def test_an_utterance_of_test_is_not_trained_on(tmp_path, record):
    make_folder(tmp_path / "train", record, ["a", "b", "x"])
    make_folder(tmp_path / "dev", record, ["c"])
    make_folder(tmp_path / "test", record, ["x"])
    splits, report = prepare(tmp_path)
    assert ids(splits) == {"train": ["a", "b"], "dev": ["c"], "test": ["x"]}
    assert [item for item, _ in report.items] == ["x"]


def test_no_data_folder(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "wav.scp").write_text("")
    with pytest.raises(ManifestError, match="found the data folders: dev; expected train"):
        prepare(tmp_path)


def test_text_in_another_encoding(tmp_path, record):
    make_folder(tmp_path / "train", record, ["a"])
    (tmp_path / "train" / "text").write_bytes(b"a ok\nb f\xfcr\n")
    with pytest.raises(ManifestError, match=r"text:2: byte 0xfc at position 4"):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("/a/b c.wav", "/a/b c.wav"),
        ("cat /a/b.wav |", "/a/b.wav"),
        ("sph2pipe -f wav -p -c 1 /a/b.wv1 |", "/a/b.wv1"),
        ("/kaldi/tools/sph2pipe_v2.5/sph2pipe -f wav '/a/b c.sph'|", "/a/b c.sph"),
        ("flac -c -d -s /a/b.flac |", "/a/b.flac"),
        ("flac -cds --silent /a/b.flac |", "/a/b.flac"),
        ("sox /a/b.mp3 -t wav -r 16k -b 16 -e signed -c 1 - |", "/a/b.mp3"),
        ("sox -t wav /a/b.wav -t wav - rate 16000 |", "/a/b.wav"),
        ("ffmpeg -v error -i /a/b.m4a -f wav -ar 16000 -ac 1 pipe:1 |", "/a/b.m4a"),
        ("sph2pipe -f wav /a/b.sph | sox -t wav - -r 8000 -t wav - |", "/a/b.sph"),
        ("cat /a/b.flac | flac -d -c - |", "/a/b.flac"),
    ],
)
def test_commands_that_only_decode(entry, file):
    assert decoded_file(entry) == file


@pytest.mark.parametrize(
    "entry",
    [
        "wget -O - http://x/a.wav |",
        "sox /a/b.wav -t wav - trim 0 10 |",
        "sox /a/b.wav -t wav - remix 1,2 |",
        "sox /a/b.wav -t wav - remix 1 2 |",
        "sox -m /a/b.wav /a/c.wav -t wav - |",
        "sox -v 0.5 /a/b.wav -t wav - |",
        "sox /a/b.wav -t wav -c 2 - |",
        "sox /a/b.wav /tmp/out.wav |",
        "cat /a/b.wav /a/c.wav |",
        "cat $(ls) |",
        "cat /a/*.wav |",
        "cat /a/b.wav; rm -rf / |",
        "cat /a/b.wav > /etc/x |",
        "cat `ls` |",
        "cat 'unclosed |",
        "cat - |",
        "cat |",
        "|",
        "flac -c -d --skip=10 /a/b.flac |",
        "ffmpeg -i /a/b.mp4 -ss 10 -f wav - |",
        "ffmpeg -i /a/b.mp4 /tmp/x.wav |",
        "sph2pipe -f wav -t 1:2 /a/b.sph |",
        "cat /a/b.wav | wav-reverberate - - |",
        "cat /a/b.wav | cat /a/c.wav |",
        "/x/feats.ark:123",
    ],
)
def test_commands_that_are_refused(entry):
    with pytest.raises(PipeError):
        decoded_file(entry)


def test_choice_of_a_channel():
    assert picked_channel("sph2pipe -f wav -p -c 1 a.sph |") == 0
    assert picked_channel("sph2pipe -f wav -p -c 2 a.sph |") == 1
    assert picked_channel("sox a.wav -t wav - remix 2 |") == 1
    assert picked_channel("sph2pipe -f wav -p a.sph |") is None
    assert decoded_file("sox a.wav -t wav - remix 2 |") == "a.wav"


def test_channels_of_a_recording(tmp_path):
    """Segments and commands say which; where nothing does, the average is taken, and told."""
    folder = tmp_path / "data"
    folder.mkdir()
    left, right = (np.sin(np.arange(16000) / step) / 4 for step in (5, 9))
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), 16000)
    call = tmp_path / "call.wav"
    (folder / "wav.scp").write_text(f"call {call}\nright sox {call} -t wav - remix 2 |\n")
    (folder / "segments").write_text(
        "a call 0 1 0\nb call 0 1 1\nboth call 0 1\nalone right 0 1\nnone call 0 1 2\nodd call 0 1 x\n"
    )
    (folder / "text").write_text(
        "".join(f"{id} yes\n" for id in ("a", "b", "both", "alone", "none", "odd"))
    )
    splits, report = prepare(folder, dev=0.0, test=0.0)
    cuts = {cut.id: cut for cut in splits["train"]}
    assert set(cuts) == {"a", "b", "both", "alone"}
    for id, expected in [("a", left), ("b", right), ("both", (left + right) / 2), ("alone", right)]:
        found = load_waveform(cuts[id], 16000)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert "channel 2 was asked for" in dict(report.items)["none"]
    reasons = [reason for id, reason in report.items if id == "odd"]
    assert "a channel from 0 on" in reasons[0]
