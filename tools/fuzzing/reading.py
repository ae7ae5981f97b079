"""Reads one input in every way that commands do; whatever is not a SpeechmmError is a fault."""

from __future__ import annotations

import contextlib
from pathlib import Path

from speechmm.data.skips import SkipReport

RATE = 16_000
_LONGEST = 60.0  # seconds of audio that are decoded


def manifest(path: Path) -> None:
    """A cuts manifest, and what is asked of its cuts."""
    from speechmm.data.manifest import cut_text, read_cuts, reference_alignment
    from speechmm.data.waveforms import recorded_span
    from speechmm.errors import SpeechmmError

    for cut in read_cuts(path, SkipReport()):
        cut_text(cut)
        with contextlib.suppress(SpeechmmError):
            recorded_span(cut)
            reference_alignment(cut)


def alignments(path: Path) -> None:
    """Alignments of any format, written again in all formats."""
    from speechmm.alignments.files import read_alignments, write_alignments
    from speechmm.errors import SpeechmmError

    found = read_alignments(path)
    for format in ("jsonl", "ctm", "textgrid", "srt", "vtt", "ass", "durations"):
        with contextlib.suppress(SpeechmmError):
            write_alignments(found[:20], path.parent.parent / "out" / format, format=format)


def alignment_set(path: Path) -> None:
    """Alignments as ``score-alignment`` reads them."""
    from speechmm.evaluation.alignment_sets import read_alignment_set

    read_alignment_set(path)


def text_set(path: Path) -> None:
    """Transcripts as ``score`` reads them."""
    from speechmm.evaluation.text_sets import read_text_set

    read_text_set(path)


def any_text(path: Path) -> None:
    """Texts as ``ngram`` reads them, and a guess at what the file is."""
    from speechmm.alignments.kinds import kind_of
    from speechmm.data.fingerprint import audio_digest, content_digest
    from speechmm.data.texts import read_texts
    from speechmm.files.text import peek_lines

    kind_of(path)
    peek_lines(path)
    content_digest(path)
    audio_digest([path])
    for _ in read_texts(path, SkipReport()):
        pass


def subtitles(path: Path) -> None:
    """Subtitles."""
    from speechmm.alignments.subtitle_files import read_subtitles

    read_subtitles(path)


def arpa(path: Path) -> None:
    """An n-gram model."""
    from speechmm.text.ngram import NgramModel

    model = NgramModel.read(path)
    model.score("home", ["go", "<s>"])
    model.score("nothing", [])
    model.write(path.parent.parent / "out" / "again.arpa")


def tokenizer(path: Path) -> None:
    """A tokenizer."""
    from speechmm.text.tokenizer import Tokenizer

    found = Tokenizer.load(path)
    found.decode(found.encode("go home 12 é"))
    found.encode_aligned("go home")
    found.encode_words("go home")
    found.token_labels(found.encode("go"))


def report(path: Path) -> None:
    """A report as ``compare`` reads it."""
    from speechmm.evaluation.system_table import markdown, page, read_rows

    rows = read_rows([path])
    markdown(rows)
    page(rows)


def records(path: Path) -> None:
    """Records of commands, which are ignored where they are damaged."""
    from speechmm.files.provenance import read_meta
    from speechmm.files.stamps import is_current, output_names, read_record

    record = read_record(path)
    is_current(record, str(record.get("stamp")), path.parent)
    output_names(record)
    output_names(record, "stored")
    read_meta(path.with_name(path.name.removesuffix(".meta.json")))


def metrics(path: Path) -> None:
    """The table of a training."""
    from speechmm.training.callbacks.metrics import read_metrics

    if path.is_file():
        read_metrics(path)


def table(path: Path) -> None:
    """A table of recordings and texts."""
    from speechmm.data.transcripts.tables import read_table

    read_table(path, lambda name: name.startswith(("u", "LJ", "de-", "wavs/")), SkipReport())


def bundle(path: Path) -> None:
    """A model; which kind it is says the name of the folder."""
    from speechmm.models.bundle import load_bundle, load_language_model

    (load_language_model if path.name.startswith("lm") else load_bundle)(path)


def checkpoint(path: Path) -> None:
    """A checkpoint."""
    from speechmm.training.checkpoints import check_checkpoint

    check_checkpoint(path)


def audio(path: Path) -> None:
    """A recording: what it says of itself, and its samples."""
    from speechmm.audio.io import audio_info, iter_audio, read_audio

    audio_info(path)
    seconds = 0.0
    for block in iter_audio(path, sample_rate=RATE):
        seconds += len(block) / RATE
        if seconds > _LONGEST:
            break
    read_audio(path, sample_rate=RATE, start=0.1, duration=0.2)


def features(path: Path) -> None:
    """Stored features of a cut."""
    from types import SimpleNamespace
    from typing import Any, cast

    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.data.features import feature_type, load_features

    config, frames = LogMelConfig(), 51
    stored = SimpleNamespace(
        type=feature_type(config),
        num_frames=frames,
        num_features=config.n_mels,
        storage_type="numpy_files",
        storage_path=str(path.parent),
        storage_key=path.name,
    )
    cut = SimpleNamespace(id="u0", duration=0.5, features=stored)
    found = load_features(cast(Any, cut), config)
    if not (tuple(found.shape) == (frames, config.n_mels) and found.is_floating_point()):
        raise TypeError(f"features of shape {tuple(found.shape)} and type {found.dtype}")


def normalizers(path: Path) -> None:
    """A text through every normalizer."""
    from speechmm.text.normalize import NORMALIZERS, normalize

    text = path.read_bytes()[:20_000].decode("utf-8", "replace") if path.is_file() else ""
    for line in text.split("\n")[:50]:
        for name in NORMALIZERS:
            normalize(line, name)


def phrases(path: Path) -> None:
    """Hotwords."""
    from speechmm.inference.recognition.fusion.load import read_phrases

    read_phrases(str(path))
