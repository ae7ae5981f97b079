"""Makes the valid inputs that are damaged later, by the toolkit's own commands and a few recordings."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from fuzzing.task_world import make_tasks
from fuzzing.voice_world import make_voice

RATE = 8_000
AUDIO = {
    "a.wav": "PCM_16", "u8.wav": "PCM_U8", "i24.wav": "PCM_24", "f.wav": "FLOAT", "mu.wav": "ULAW",
    "ima.wav": "IMA_ADPCM", "a.flac": "PCM_16", "a.ogg": "VORBIS", "a.opus": "OPUS",
    "a.mp3": "MPEG_LAYER_III", "a.aiff": "PCM_16", "a.au": "PCM_16", "a.w64": "PCM_16",
    "a.caf": "PCM_16", "a.sph": "PCM_16", "a.rf64": "PCM_16", "a.avr": "PCM_16", "a.voc": "PCM_16",
}  # fmt: skip
_FORMATS = {"opus": "OGG", "sph": "NIST"}
WORDS = ["go", "home", "now", "please", "call", "eight", "one", "zero"]
TINY = {"d_model": 16, "heads": 2, "ff_dim": 16, "encoder_layers": 1, "decoder_layers": 1}
TRANSCRIPTS = {
    "text": "t.txt", "jsonl": "t.jsonl", "ctm": "t.ctm", "trn": "t.trn", "srt": "srt", "vtt": "vtt",
    "textgrid": "grids",
}  # fmt: skip
ALIGNMENTS = {
    "jsonl": "al.jsonl", "ctm": "al.ctm", "textgrid": "al-grids", "srt": "al-srt", "ass": "al-ass",
    "vtt": "al-vtt", "durations": "al-durations", "cuts": "al-cuts.jsonl.gz",
}  # fmt: skip
"""Format to file or folder."""


def make_texts(root: Path) -> None:
    """Files of every format of texts, alignments and records, without recordings or a model."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in TEXT_FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    from speechmm.text.ngram import estimate_ngrams
    from speechmm.text.tokenizer_training import train_tokenizer

    sentences = ["go home now", "call eight one zero please", "go now", "home"] * 3
    estimate_ngrams(sentences, order=3).write(root / "lm.arpa")
    estimate_ngrams(sentences, order=2).write(root / "lm.arpa.gz")
    train_tokenizer(sentences, kind="char").save(root / "char.json")


def make_world(root: Path) -> None:
    """Everything: texts, recordings, corpora, a trained model with all that its commands write."""
    make_texts(root / "texts")
    make_audio(root / "audio")
    _make_corpora(root / "corpora")
    _make_model(root)
    make_voice(root)
    _make_results(root)
    make_tasks(root)
    for left in root.rglob("events.out.tfevents*"):
        left.unlink()


def noise(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """Something to be heard: noise whose level and colour change."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * (200 + 50 * seed) * time) * (np.sin(9 * time) > 0)
    return np.asarray(tone + 0.01 * generator.standard_normal(len(time)), dtype=np.float32)


def record(path: Path, seconds: float = 0.5, *, seed: int = 0, subtype: str | None = None) -> Path:
    """Writes a recording in the format that its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix[1:].lower()
    soundfile.write(
        path,
        noise(seconds, seed),
        RATE,
        subtype=subtype,
        format=_FORMATS.get(suffix, suffix.upper()),
    )
    return path


def make_audio(folder: Path) -> None:
    """A recording in every format that can be written here."""
    for number, (name, subtype) in enumerate(AUDIO.items()):
        with contextlib.suppress(soundfile.LibsndfileError):  # what this version cannot write
            record(folder / name, 0.4, seed=number, subtype=subtype)
    stereo = np.stack([noise(0.4, 1), noise(0.4, 2)], axis=1)
    soundfile.write(folder / "stereo.wav", stereo, RATE)
    for path in folder.iterdir():
        if path.stat().st_size == 0:
            path.unlink()
    _make_containers(folder)


def _make_containers(folder: Path) -> None:
    """Recordings in formats that FFmpeg writes, where PyAV is installed."""
    try:
        import av
    except ImportError:
        return
    samples = (32767 * noise(0.5, 3, 16_000)).astype(np.int16)[None]
    for name, codec in (
        ("a.m4a", "aac"),
        ("a.webm", "libopus"),
        ("a.mkv", "flac"),
        ("a.mp4", "aac"),
    ):
        with contextlib.suppress(Exception), av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=48_000 if codec == "libopus" else 16_000)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16_000
            resampler = av.AudioResampler(format=stream.format, layout="mono", rate=stream.rate)
            for ready in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(ready))
            container.mux(stream.encode(None))


def _make_corpora(root: Path) -> None:
    """A small corpus in every layout that ``prepare`` reads."""
    texts = [" ".join(WORDS[i % 3 : i % 3 + 3]) for i in range(24)]
    names = [f"u{i}" for i in range(6)]
    for number, name in enumerate(names):
        record(root / "folder" / f"{name}.wav", 1.0, seed=number)
        (root / "folder" / f"{name}.txt").write_text(texts[number] + "\n", "utf-8")
        record(root / "table" / "wavs" / f"{name}.flac", seed=number)
        record(root / "kaldi" / "audio" / f"{name}.wav", seed=number)
    rows = zip(names, texts, strict=False)
    table = "path\tsentence\tclient_id\n" + "".join(f"wavs/{n}.flac\t{t}\tann\n" for n, t in rows)
    (root / "table" / "train.tsv").write_text(table, "utf-8")
    rows = zip(names, texts, strict=False)
    (root / "table" / "metadata.csv").write_text(
        "".join(f"{n}|{t}|{t}\n" for n, t in rows), "utf-8"
    )
    _make_kaldi(root / "kaldi" / "train", root / "kaldi" / "audio", names, texts)
    for digit in range(2):
        for index in (0, 5, 12):
            record(root / "fsdd" / "recordings" / f"{digit}_ann_{index}.wav", 0.2, seed=digit)
    for number in range(12):
        name = "_".join(f"{number:04b}")
        record(root / "yesno" / "waves_yesno" / f"{name}.wav", 0.2, seed=number)
    for kind, stem, suffix in (
        ("ljspeech", "LJ001-{:04d}", "wav"),
        ("kerstin", "de-{:04d}", "flac"),
    ):
        ids = [stem.format(i) for i in range(12)]
        for number, name in enumerate(ids):
            record(root / kind / "wavs" / f"{name}.{suffix}", 0.2, seed=number)
        (root / kind / "metadata.csv").write_text(
            "".join(f"{i}|Go home|go home\n" for i in ids), "utf-8"
        )
    _make_librispeech(root / "librispeech")
    _make_an4(root / "an4")


def _make_kaldi(folder: Path, audio: Path, names: list[str], texts: list[str]) -> None:
    folder.mkdir(parents=True)
    (folder / "wav.scp").write_text("".join(f"{n} {audio / n}.wav\n" for n in names), "utf-8")
    segments = "".join(f"{n}-a {n} 0.0 0.3\n" for n in names)
    (folder / "segments").write_text(segments, "utf-8")
    lines = (f"{n}-a {t}\n" for n, t in zip(names, texts, strict=False))
    (folder / "text").write_text("".join(lines), "utf-8")
    (folder / "utt2spk").write_text(
        "".join(f"{n}-a s{i % 2}\n" for i, n in enumerate(names)), "utf-8"
    )


def _make_librispeech(root: Path) -> None:
    for part in ("train-clean-5", "dev-clean-2"):
        for speaker in ("1", "2"):
            chapter = root / part / f"{speaker}{len(part)}" / "7"
            names = [f"{chapter.parent.name}-7-{i:04d}" for i in range(2)]
            for number, name in enumerate(names):
                record(chapter / f"{name}.flac", seed=number)
            lines = "".join(f"{name} GO HOME\n" for name in names)
            (chapter / f"{chapter.parent.name}-7.trans.txt").write_text(lines, "utf-8")
            times = f'{names[0]} ",GO,,HOME," "0.05,0.1,0.15,0.25,0.3"\n'
            (chapter / f"{chapter.parent.name}-7.alignment.txt").write_text(times, "utf-8")


def _make_an4(root: Path) -> None:
    (root / "etc").mkdir(parents=True)
    for part, folder, speakers in (
        ("train", "an4_clstk", ("mb", "fa", "fz")),
        ("test", "an4test_clstk", ("mt",)),
    ):
        ids = [(s, f"an{i}-{s}-b") for s in speakers for i in range(101, 141)]
        files = "".join(f"{folder}/{s}/{name}\n" for s, name in ids)
        (root / "etc" / f"an4_{part}.fileids").write_text(files)
        lines = "".join(f"<s> GO </s> ({name})\n" for _, name in ids)
        (root / "etc" / f"an4_{part}.transcription").write_text(lines)
        for speaker, name in ids:
            record(root / "wav" / folder / speaker / f"{name}.sph", 0.02)


def run(*arguments: object, codes: Iterable[int] = (0, 3)) -> None:
    """Runs a command in this process, in silence.

    Raises:
        SystemExit: It failed, so there are no inputs to damage.
    """
    from speechmm.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(one) for one in arguments])
    if code not in codes:
        raise SystemExit(f"speechmm {arguments}: exit code {code}\n{said.getvalue()}")


def _make_model(root: Path) -> None:
    """Manifests, features, tokenizers, and models that have learnt next to nothing."""
    run(
        "prepare", "folder", root / "corpora" / "folder", root / "data", "--dev", 0.2, "--test", 0.2
    )
    train, dev = root / "data" / "train.jsonl.gz", root / "data" / "dev.jsonl.gz"
    run("tokenizer", train, "--out", root / "char.json")
    run("tokenizer", train, "--kind", "bpe", "--vocab-size", 22, "--out", root / "bpe.json")
    run("tokenizer", train, "--kind", "phone", "--out", root / "phone.json")
    run("features", train, dev, "--out", root / "features")
    manifest = root / "features" / "train.jsonl.gz"
    for name, settings in (("joint", joint_config(root, manifest)), ("lm", lm_config(root))):
        path = root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings), "utf-8")
        run("fit", "--config", path, "--trainer.default_root_dir", root / name)
    shutil.copytree(root / "joint" / "bundle", root / "bundle")
    shutil.copytree(root / "lm" / "bundle", root / "lm-bundle")


def joint_config(root: Path, train: Path) -> dict[str, Any]:
    """Settings of the smallest training."""
    return {
        "data": {
            "train": [str(train)],
            "dev": [str(root / "data" / "dev.jsonl.gz")],
            "tokenizer": str(root / "char.json"),
            "batch_seconds": 3.0,
            "num_workers": 0,
        },
        "model": {
            "network": {**TINY, "front_channels": 4},
            "tasks": {"asr": {"ctc_weight": 0.4}},
            "augmentation": {"spec_augment": {"time_masks": 1, "time_mask_frames": 4}},
            "optimization": {"learning_rate": 0.01, "warmup_steps": 3, "ema_decay": 0.9},
        },
        "trainer": {"accelerator": "cpu", "default_root_dir": "exp", "max_epochs": 1},
    }


def lm_config(root: Path) -> dict[str, Any]:
    """Settings of the smallest training of a language model."""
    return {
        "kind": "lm",
        "data": {
            "train": [str(root / "texts" / "lines.txt")],
            "dev": [str(root / "texts" / "lines.txt")],
            "tokenizer": str(root / "char.json"),
            "batch_tokens": 60,
        },
        "model": {"network": {"d_model": 16, "heads": 2, "ff_dim": 32, "layers": 1}},
        "trainer": {"accelerator": "cpu", "default_root_dir": "exp", "max_epochs": 1},
    }


def _make_results(root: Path) -> None:
    """What the model's commands write of the corpus, and the reports on it."""
    cuts, model = root / "data" / "train.jsonl.gz", ("--model", root / "bundle")
    for kind, name in TRANSCRIPTS.items():
        run(
            "transcribe",
            cuts,
            *model,
            "--format",
            kind,
            "--out",
            root / "out" / name,
            "--no-speech-gate",
        )
    for kind, name in ALIGNMENTS.items():
        run("align", cuts, *model, "--format", kind, "--out", root / "out" / name)
    run("score", root / "out" / "t.jsonl", cuts, "--out", root / "report")
    run(
        "score-alignment",
        root / "out" / "al.jsonl",
        root / "out" / "al-cuts.jsonl.gz",
        "--out",
        root / "boundaries",
    )
    shutil.copytree(root / "report", root / "report-2")
    lines, voice = root / "texts" / "lines.txt", ("--model", root / "voice")
    run("synthesize", lines, *voice, "--out", root / "spoken", "--times", root / "spoken.jsonl")
    out = ("--task", "translate", "--out", root / "translated-report")
    run("score", root / "out" / "t.jsonl", root / "out" / "t.jsonl", *out)


def _json_lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _segment(label: str, start: float, end: float) -> dict[str, Any]:
    return {"label": label, "start": start, "end": end, "confidence": 0.9}


_UNITS = {
    "word": [_segment("go", 0.1, 0.3), _segment("home", 0.3, 0.9)],
    "char": [_segment("g", 0.1, 0.2), _segment("o", 0.2, 0.3)],
}
_CUT = {
    "id": "u0",
    "start": 0.0,
    "duration": 1.0,
    "channel": 0,
    "supervisions": [
        {
            "id": "u0", "recording_id": "u0", "start": 0.0, "duration": 1.0, "channel": 0,
            "text": "go home", "language": "en", "speaker": "ann",
            "alignment": {"word": [["go", 0.1, 0.2, 0.9], ["home", 0.3, 0.6, None]]},
        }
    ],
    "recording": {
        "id": "u0",
        "sources": [{"type": "file", "channels": [0], "source": "u0.wav"}],
        "sampling_rate": 16000,
        "num_samples": 16000,
        "duration": 1.0,
        "channel_ids": [0],
        "transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}],
    },
    "custom": {"averaged_channels": [0]},
    "type": "MonoCut",
}  # fmt: skip
TEXT_FILES = {
    "cuts.jsonl": _json_lines(_CUT, {**_CUT, "id": "u1"}),
    "transcripts.jsonl": _json_lines(
        {
            "id": "u0", "text": "go home", "start": 0.0, "duration": 1.0, "confidence": 0.8,
            "words": [{"word": "go", "start": 0.1, "end": 0.3, "confidence": 0.9}],
        },
        {"id": "u1", "text": "call", "words": []},
    ),
    "alignments.jsonl": _json_lines(
        {"id": "u0", "audio": "u0.wav", "start": 0.0, "duration": 1.0, "confidence": 0.5, "units": _UNITS},
        {"id": "u1", "audio": "u1.wav", "start": 0.0, "duration": 1.0, "confidence": None, "units": _UNITS},
    ),
    "a.trn": "go home (u0)\ncall eight (u1)\n(u2)\n",
    "a.stm": ";; comment\nu0 1 ann 0.00 1.00 <o,f0> go home\nu1 1 bob 0.0 2.5 call eight\n",
    "a.ctm": ";; comment\nu0 1 0.100 0.200 go 0.9\nu0 1 0.300 0.600 home 0.8\nu1 A 0.0 0.5 call NA\n",
    "text": "u0 go home\nu1 call eight\n",
    "lines.txt": "go home now\ncall eight one zero please\ngo now\nhome\nit's $5.00, Dr. Ng's 21st\n",
    "a.srt": "1\n00:00:00,100 --> 00:00:00,900\nGo <i>home</i>\n\n2\n00:00:01,000 --> 00:00:02,000\n"
    "- Call\n",
    "a.vtt": "WEBVTT\n\nNOTE x\n\n00:00.100 --> 00:00.900 align:start\nGo <v Ann>home &amp; dry\n",
    "a.ass": "[Script Info]\nTitle: x\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
    "MarginR, MarginV, Effect, Text\nDialogue: 0,0:00:00.10,0:00:00.90,Default,,0,0,0,,{\\b1}Go\\Nhome\n",
    "long.TextGrid": 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\n'
    'tiers? <exists>\nsize = 1\nitem []:\n    item [1]:\n        class = "IntervalTier"\n'
    '        name = "words"\n        xmin = 0\n        xmax = 1\n        intervals: size = 2\n'
    '        intervals [1]:\n            xmin = 0\n            xmax = 0.4\n            text = "go"\n'
    '        intervals [2]:\n            xmin = 0.4\n            xmax = 1\n            text = "ho""me"\n',
    "short.TextGrid": 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n1\n'
    '"IntervalTier"\n"word"\n0\n1\n2\n0\n0.4\n"go"\n0.4\n1\n"home"\n',
    "report/report.json": json.dumps(
        {
            "wer": {
                "value": 0.5, "substitutions": 1, "deletions": 0, "insertions": 0, "reference_words": 2,
                "ci95": [0.1, 0.9],
            },
            "cer": {"value": 0.3, "ci95": [0.1, 0.5]},
            "normalizer": "basic",
            "rtf": 0.1,
        }
    ),
    "t.jsonl.meta.json": json.dumps(
        {"model": "b", "decoding": {"beam": 1}, "command": "x", "git_commit": "a", "seed": 1, "rtf": 0.1,
         "audio_seconds": 1.0, "seconds": 0.1,
         "efficiency": {"parameters": 1, "model_bytes": 1, "peak_memory_bytes": 1, "threads": 1,
                        "seconds_by_part": {"search": 0.1}}}
    ),
    "hotwords.txt": "go home\ncall eight\n",
    "metrics.csv": "epoch,step,train/loss,val/loss\n0,1,2.5,\n0,1,,2.4\n1,2,2.0,\n",
    "table.tsv": "path\tsentence\nu0.wav\tgo home\nu1.wav\tcall eight\n",
    "table.csv": "u0|go home|go home\nu1|call|call\n",
    "RESULTS.md": "# Results\n\n## Test\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
}  # fmt: skip
"""Name to content: a small valid file of every format that is text."""
