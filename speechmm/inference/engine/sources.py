"""What a user names (files, folders, manifests) as a list of utterances to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from speechmm.audio.io import audio_info, find_audio, iter_audio, read_audio
from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError, AudioError, ManifestError, SpeechmmError
from speechmm.options import MANIFEST_SUFFIXES

if TYPE_CHECKING:
    from lhotse import MonoCut

TEXT_SUFFIXES = (".txt", ".lab")
"""Where the text of an audio file is looked for, beside it and with its stem."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One utterance (or one long recording): how to read its audio and its text."""

    id: str
    audio: str = ""
    """Path of the audio file; empty for audio in memory."""
    start: float = 0.0
    """Seconds from the start of the audio file."""
    text: str | None = None
    """What is said, when that is known already."""
    waveform: Float[Tensor, " samples"] | None = None
    """Audio in memory, mono, at the rate of the model."""
    cut: MonoCut | None = None
    """The lhotse cut it comes from."""

    @property
    def name(self) -> str:
        """How messages call it: the path of a file, the id of a cut or of audio in memory."""
        return self.audio if self.audio and self.cut is None else self.id

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
            return self.waveform
        if self.cut is not None:
            from speechmm.data.manifest import load_waveform

            return load_waveform(self.cut, sample_rate)
        return read_audio(self.audio, sample_rate=sample_rate)

    def blocks(self, sample_rate: int) -> Iterator[Float[Tensor, " samples"]]:
        """Its audio block by block; a file of any length is read in bounded memory."""
        if self.waveform is None and self.cut is None:
            return iter_audio(self.audio, sample_rate=sample_rate)
        return iter([self.load(sample_rate)])

    def transcript(self) -> str:
        """What is said: the given text, or that of the ``.txt`` or ``.lab`` file beside the audio.

        Raises:
            AlignmentError: There is no text.
            ManifestError: The file of the text cannot be read.
        """
        text = self.text
        if text is None and self.audio:
            beside = [Path(self.audio).with_suffix(suffix) for suffix in TEXT_SUFFIXES]
            text = next((read_text(path) for path in beside if path.is_file()), None)
        if text is None or not text.strip():
            found = "there is no text" if text is None else "its text is empty"
            raise AlignmentError(
                f"{self.name}: {found}; expected the words that are said. Put them into a .txt or "
                ".lab file of the same name, or give them with --text."
            )
        return text


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        ManifestError: It cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start}); expected text in UTF-8. "
            "Convert it, for example with iconv."
        ) from error
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror}); expected a text file. Check the path."
        ) from error


def find_sources(inputs: Sequence[Path | str], skipped: SkipReport) -> list[Source]:
    """The utterances of audio files, folders and cuts manifests, in the order given.

    Files get their stem as id; files that share a stem get their path below the given folder, and
    what then still collides a number. Cuts keep their ids unless two inputs share one.

    Args:
        inputs: Paths; a folder stands for the audio files in it and below.
        skipped: Where inputs without any audio, and bad lines of manifests, are noted.
    """
    sources: list[Source] = []
    for path in map(Path, inputs):
        try:
            if path.name.endswith(MANIFEST_SUFFIXES):
                sources += cut_sources(_read_cuts(path, skipped), skipped)
            elif path.is_dir():
                sources += file_sources(_audio_in(path), folder=path)
            else:
                sources += file_sources([path])
        except SpeechmmError as error:
            skipped.add(str(path), error)
    return _with_own_ids(sources)


def file_sources(paths: Iterable[Path | str], folder: Path | None = None) -> list[Source]:
    """Audio files as sources; two of the same stem are told apart by their paths below a folder."""
    files = [Path(path) for path in paths]
    stems = Counter(file.stem for file in files)

    def name(file: Path) -> str:
        if stems[file.stem] > 1 and folder is not None:
            return file.relative_to(folder).with_suffix("").as_posix()
        return file.stem

    return _with_own_ids([Source(id=name(file), audio=str(file)) for file in files])


def cut_sources(cuts: Iterable[MonoCut], skipped: SkipReport | None = None) -> list[Source]:
    """Cuts as sources, with their texts; a cut whose audio is not one file is noted."""
    from speechmm.data.manifest import audio_path, cut_text

    skipped = SkipReport(strict=True) if skipped is None else skipped
    sources = []
    for cut in cuts:
        try:
            audio = str(audio_path(cut))
        except ManifestError as error:
            skipped.add(str(cut.id), error)
            continue
        sources.append(Source(id=cut.id, audio=audio, start=cut.start, text=cut_text(cut), cut=cut))
    return sources


def _read_cuts(path: Path, skipped: SkipReport) -> Iterable[MonoCut]:
    from speechmm.data.manifest import read_cuts

    cuts: Iterable[MonoCut] = read_cuts(path, skipped)
    return cuts


def _audio_in(folder: Path) -> list[Path]:
    files = find_audio(folder)
    if not files:
        raise AudioError(
            f"{folder}: there are no audio files in this folder; expected at least one. "
            "Check the path, or name the files."
        )
    return files


def _with_own_ids(sources: list[Source]) -> list[Source]:
    """The same sources, ids that were met before followed by -2, -3, ..."""
    from dataclasses import replace

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
