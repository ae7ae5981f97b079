"""Turns what a user names (files, folders, manifests) into utterances to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from speechmm.audio.files import audio_among, unreadable_among
from speechmm.audio.io import audio_info, iter_audio, read_audio
from speechmm.data.ids import make_ids
from speechmm.data.skips import SkipReport, named_failure
from speechmm.data.transcripts.sidecars import pair_files, read_transcript, text_beside
from speechmm.errors import AlignmentError, AudioError
from speechmm.files.pipes import STDIN, is_pipe, starts_like_rows
from speechmm.files.shar import is_shar
from speechmm.files.tree import list_files
from speechmm.options import MANIFEST_SUFFIXES

if TYPE_CHECKING:
    from lhotse import MonoCut


@dataclass(frozen=True, kw_only=True)
class Source:
    """One utterance (or one long recording): how to read its audio and its text."""

    id: str
    audio: str = ""
    """Path of the audio file; empty for audio in memory."""
    start: float = 0.0
    """Seconds from the start of the audio file."""
    channel: int | None = None
    """The one channel of the audio file that is read, counted from 0; None takes their average."""
    text: str | None = None
    """What is said, when that is known already."""
    text_file: Path | None = None
    """Where that is written, when it has been found already."""
    waveform: Float[Tensor, " samples"] | None = None
    """Audio in memory, mono, at the rate of the model."""
    cut: MonoCut | None = None
    """The lhotse cut it comes from."""

    @property
    def name(self) -> str:
        """How messages call it: the path of a file, the id of a cut or of audio in memory."""
        return self.audio if self.audio and self.cut is None else self.id

    @property
    def language(self) -> str | None:
        """The language spoken, where its cut says it."""
        spoken = [] if self.cut is None else [one.language for one in self.cut.supervisions]
        return next(iter(spoken), None)

    def duration(self, sample_rate: int) -> float:
        """Its length in seconds, without decoding it.

        Args:
            sample_rate: Hz of audio in memory.

        Raises:
            AudioError: The file is missing, empty or not audio.
        """
        if self.waveform is not None:
            return len(self.waveform) / sample_rate
        if self.cut is not None:
            return float(self.cut.duration)
        return audio_info(self.audio).duration

    def load(self, sample_rate: int) -> Float[Tensor, " samples"]:
        """Its whole audio, mono, at the given rate in Hz.

        Raises:
            AudioError: The audio is missing, damaged or of length zero.
            ManifestError: The cut asks for what cannot be done.
        """
        if self.waveform is not None:
            if len(self.waveform) == 0:
                raise AudioError(
                    f"{self.name}: it holds no samples; expected audio of some length. Record it."
                )
            if not bool(self.waveform.isfinite().all()):
                raise AudioError(
                    f"{self.name}: a sample is not a finite number; expected samples in [-1, 1]. "
                    "Make it again without NaN and infinity."
                )
            return self.waveform
        if self.cut is not None:
            from speechmm.data.waveforms import load_waveform

            return load_waveform(self.cut, sample_rate)
        return read_audio(self.audio, sample_rate=sample_rate, channels=self.channels or None)

    def blocks(self, sample_rate: int) -> Iterator[Float[Tensor, " samples"]]:
        """Its audio block by block; a file of any length is read in bounded memory."""
        if self.waveform is None and self.cut is None:
            return iter_audio(self.audio, sample_rate=sample_rate, channels=self.channels or None)
        return iter([self.load(sample_rate)])

    @property
    def channels(self) -> tuple[int, ...]:
        """Those of its audio file that are averaged, counted from 0; empty means all."""
        if self.cut is None:
            return () if self.channel is None else (self.channel,)
        from speechmm.data.waveforms import chosen_channels

        return chosen_channels(self.cut)

    def as_cut(self, text: str) -> MonoCut:
        """The cut that it was, under the id that it has among the inputs; else one of all of its audio."""
        from speechmm.data.manifest import make_cut

        if self.cut is None:
            return make_cut(id=self.id, audio=self.audio, text=text, channel=self.channel)
        return self.cut.with_id(self.id)

    def transcript(self) -> str:
        """What is said: the given text, or that of the ``.txt`` or ``.lab`` file of the audio.

        Raises:
            AlignmentError: There is no text.
            ManifestError: The file of the text cannot be read, or holds labels with times.
        """
        text = self.text
        if text is None and self.audio:
            path = self.text_file or text_beside(Path(self.audio))
            text = None if path is None else read_transcript(path)
        if text is None or not text.strip():
            found = "there is no text" if text is None else "its text is empty"
            raise AlignmentError(
                f"{self.name}: {found}; expected the words that are said. Put them into a .txt or "
                ".lab file of the same name, or give them with --text."
            )
        return text


def find_sources(inputs: Sequence[Path | str], skipped: SkipReport) -> list[Source]:
    """The utterances of audio files, folders and cuts manifests, in the order given.

    Files named by themselves get their stem as id; those of a folder the id and the text that
    ``speechmm prepare folder`` gives them. Cuts keep their ids. Of inputs that share an id, all but
    the first get a number.

    Args:
        inputs: Paths; a folder stands for the audio files in it and below, or for its cuts if it is one
            of lhotse Shar; "-" is standard input. Through a pipe comes audio, or a manifest.
        skipped: Where inputs without any audio, audio in formats that cannot be read, and bad lines
            of manifests are noted.
    """
    sources: list[Source] = []
    for path in map(Path, inputs):
        try:
            if holds_cuts(path):
                sources += cut_sources(_read_cuts(path, skipped), skipped)
            elif str(path) == STDIN:
                sources.append(Source(id="stdin", audio="/dev/stdin"))
            elif path.is_dir():
                sources += _folder_sources(path, skipped)
            else:
                sources += file_sources([path])
        except Exception as error:
            skipped.add(str(path), named_failure(str(path), error))
    return _with_own_ids(sources)


def holds_cuts(path: Path) -> bool:
    """Whether an input is a cuts manifest or a folder of lhotse Shar."""
    if is_pipe(path):
        return starts_like_rows(path)
    return path.name.endswith(MANIFEST_SUFFIXES) or is_shar(path)


def file_sources(paths: Iterable[Path | str]) -> list[Source]:
    """Audio files as sources, named by their stems."""
    return _with_own_ids([Source(id=Path(path).stem, audio=str(path)) for path in paths])


def text_source(
    audio: str | Path | Float[Tensor, " samples"], text: str, *, id: str | None = None
) -> Source:
    """A file, or mono audio in memory at the wanted rate, with its text; named after the file."""
    if isinstance(audio, Tensor):
        return Source(id=id or "audio", waveform=audio, text=text)
    (source,) = file_sources([audio])
    return replace(source, id=id or source.id, text=text)


def _folder_sources(folder: Path, skipped: SkipReport) -> list[Source]:
    """The audio files in a folder and below as sources, with their texts where there are any."""
    files = list_files(folder, error=AudioError)
    for path, error in unreadable_among(files).items():
        skipped.add(str(path), error)
    audio = audio_among(files)
    if not audio:
        raise AudioError(
            f"{folder}: there are no audio files in this folder; expected at least one. "
            "Check the path, or name the files."
        )
    ids, texts = make_ids(audio), pair_files(files, audio)
    return [Source(id=ids[path], audio=str(path), text_file=texts.get(path)) for path in audio]


def cut_sources(cuts: Iterable[MonoCut], skipped: SkipReport | None = None) -> list[Source]:
    """Cuts as sources, with their texts; a cut whose audio is not one file is noted."""
    from speechmm.data.manifest import cut_text
    from speechmm.data.waveforms import audio_path

    skipped = SkipReport(strict=True) if skipped is None else skipped
    sources = []
    for cut in cuts:
        try:
            audio = str(audio_path(cut))
        except Exception as error:
            skipped.add(str(cut.id), named_failure(str(cut.id), error))
            continue
        sources.append(Source(id=cut.id, audio=audio, start=cut.start, text=cut_text(cut), cut=cut))
    return sources


def _read_cuts(path: Path, skipped: SkipReport) -> Iterable[MonoCut]:
    from speechmm.data.manifest import read_cuts

    cuts: Iterable[MonoCut] = read_cuts(path, skipped)
    return cuts


def _with_own_ids(sources: list[Source]) -> list[Source]:
    """The same sources, ids that were met before followed by -2, -3, ..."""
    taken = {source.id for source in sources}
    seen: set[str] = set()
    result = []
    for source in sources:
        own, number = source.id, 1
        while own in seen or (number > 1 and own in taken):
            number += 1
            own = f"{source.id}-{number}"
        seen.add(own)
        result.append(source if own == source.id else replace(source, id=own))
    return result
