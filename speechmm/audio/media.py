"""Reads the sound of media files that libsndfile does not read: m4a, mp4, mov, webm, mkv, amr, wma, ...

One pass over a file counts its samples, for no header tells them exactly, and notes where to enter
it for every second; that is kept. What is read then is found by these notes, to the sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmm.audio.containers import cut_short
from speechmm.audio.content import Content
from speechmm.audio.ffmpeg import Decoded, Decoder, Entry
from speechmm.files.file_cache import FileCache

_LEADING_GAP, _SHORTEST_GAP, _LONGEST_GAP = 0.01, 0.1, 3600.0
"""Seconds without sound, at the beginning and later, that are silence; more is a broken clock."""
_ENTRY_SECONDS = 1.0
_RUN_UP = 4
"""Packets of which there are notes, at least, that are decoded before a place that is sought."""
_MISSING_SECONDS = 0.5
"""More than this under what a header promises is a file cut short."""
_MOST_PLACES = 1 << 19
"""Of which there are notes, of all files together."""


@dataclass
class _Notes:
    """What a pass over a file has shown."""

    sample_rate: int
    channels: int
    num_samples: int
    places: dict[Entry, int] = field(default_factory=dict)
    """The sample at which a packet begins, of one packet a second."""


@dataclass(frozen=True)
class _Block:
    """Samples with their place."""

    entry: Entry | None
    """The packet that begins here."""
    place: int
    """Number of the first sample."""
    length: int
    """Samples per channel."""
    decoded: Decoded | None = None
    """What is heard; None is silence."""


_kept: FileCache[_Notes] = FileCache(_MOST_PLACES, lambda notes: 1 + len(notes.places))


class MediaFile:
    """The sound of a media file, to be read as a `soundfile.SoundFile` is."""

    def __init__(self, content: Content, path: Path) -> None:
        """Opens it.

        Args:
            content: The file.
            path: Its name.

        Raises:
            AudioError: It is no media file, holds no sound, or is damaged or cut short.
        """
        self._content, self._path = content, path
        self._decoder = Decoder(content, path)
        self.format, self.subtype = self._decoder.format.upper(), self._decoder.codec.upper()
        self._notes = _kept.get(path, content.state, self._take_notes)
        self.samplerate, self.channels = self._notes.sample_rate, self._notes.channels
        self.frames = self._notes.num_samples
        self._rest = np.zeros((0, self.channels), np.float32)
        self._coming = self._from_start(0)

    def read(
        self, count: int, dtype: str = "float32", always_2d: bool = True
    ) -> NDArray[np.float32]:
        """The next samples, (samples, channels), fewer at the end."""
        parts, there = [self._rest], len(self._rest)
        while there < count and (block := next(self._coming, None)) is not None:
            parts.append(block)
            there += len(block)
        joined = np.concatenate(parts)
        self._rest = joined[count:].copy()
        return joined[:count]

    def seek(self, sample: int) -> None:
        """Goes on reading at a sample."""
        self._rest = self._rest[:0]
        self._coming = self._from_entry(sample)

    def close(self) -> None:
        """Frees the decoder; the file stays open."""
        self._decoder.close()

    def _take_notes(self) -> _Notes:
        try:
            notes = _take_notes(self._decoder, self._path)
        finally:
            self._decoder.close()
        self._decoder = Decoder(self._content, self._path)
        return notes

    def _from_start(self, sample: int) -> Iterator[NDArray[np.float32]]:
        yield from self._between(_placed(self._decoder, self._decoder.packets(), 0), sample)

    def _between(self, blocks: Iterable[_Block], sample: int) -> Iterator[NDArray[np.float32]]:
        """What of the blocks is in the file, from a sample on."""
        for block in blocks:
            first, last = max(0, sample - block.place), max(0, self.frames - block.place)
            if first < min(last, block.length):
                silence = np.zeros((block.length, self.channels), np.float32)
                yield (silence if block.decoded is None else block.decoded.samples())[first:last]

    def _from_entry(self, sample: int) -> Iterator[NDArray[np.float32]]:
        """Enters the file at a packet before a sample; at its beginning where that fails."""
        blocks = self._entered(sample)
        if blocks is None:
            self._decoder.close()
            self._decoder = Decoder(self._content, self._path)
            yield from self._from_start(sample)
        else:
            yield from self._between(blocks, sample)

    def _entered(self, sample: int) -> Iterator[_Block] | None:
        """The blocks from a little before a sample on, if two known packets come as they did."""
        places = self._notes.places
        before = [entry for entry, place in places.items() if place <= sample]
        if len(before) <= _RUN_UP or not self._decoder.seek(before[-_RUN_UP]):
            return None
        packets = self._decoder.packets()
        next(packets, None)
        for decoded in packets:
            if decoded.entry in places:
                break
            if decoded.entry is None or decoded.entry[0] > before[-1][0]:
                return None
        else:
            return None
        blocks = _placed(self._decoder, packets, places[decoded.entry] + decoded.length)
        for block in blocks:
            if block.place >= sample:
                return None
            if block.entry in places:
                return chain([block], blocks) if places[block.entry] == block.place else None
        return None


def _take_notes(decoder: Decoder, path: Path) -> _Notes:
    notes, last, longest = _Notes(0, 0, 0), None, 0
    for block in _placed(decoder, decoder.packets(), 0):
        step = _ENTRY_SECONDS * decoder.sample_rate
        if block.entry is not None and (last is None or block.place - last >= step):
            notes.places[block.entry] = last = block.place
        notes.num_samples = block.place + block.length
        longest = max(longest, block.length)
    notes.sample_rate, notes.channels = decoder.sample_rate, decoder.channels
    promised = decoder.promised if notes.sample_rate else None
    if promised is not None:
        if notes.num_samples + _MISSING_SECONDS * notes.sample_rate < promised:
            raise cut_short(path, notes.num_samples, promised, notes.sample_rate)
        if (
            0 < notes.num_samples - promised < 2 * longest
        ):  # what the encoder added to its last frame
            notes.num_samples = promised
    return notes


def _placed(decoder: Decoder, packets: Iterable[Decoded], place: int) -> Iterator[_Block]:
    """The samples of packets with their places; silence where a film goes on without sound."""
    for decoded in packets:
        entry, rate = decoded.entry, decoder.sample_rate
        gap = 0 if decoded.due is None else decoded.due - place
        shortest = _SHORTEST_GAP if place else _LEADING_GAP
        if shortest * rate < gap < _LONGEST_GAP * rate:
            while gap > 0:
                yield _Block(entry, place, min(gap, rate))
                entry, place, gap = None, place + min(gap, rate), gap - rate
        yield _Block(entry, place, decoded.length, decoded)
        place += decoded.length
