"""Draws the speakers of the spoken corpus, and speaks utterances in processes of their own.

Imports nothing heavy: the processes that speak start in a fraction of a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from speechmm.audio.writing import write_audio
from speechmm.errors import SpeechmmError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speechmm.alignments import Segment

SAMPLE_RATE = 16_000
"""Hz of the files."""

ACCENTS = ("en-us", "en-us-nyc", "en-gb", "en-gb-x-rp")
"""Two of the United States, two of the south of England."""

VARIANTS = {
    "train": (
        "m1 m3 m4 m6 m7 f1 f2 f3 f5 Alex Andy Annie Denis Diogo Gene Hugo Jacky Lee Mike "
        "adam antonio belinda benjamin david ed edward gustave linda max michel pedro quincy rob "
        "robert shelby steph steph3 travis victor klatt4"
    ),
    "dev": "anika marcelo Storm mike2",
    "test": "m5 m8 f4 Andrea Nguyen aunty paul",
}
"""Voices of each split. Left out: whispers, robots, strong echoes, trembling voices, and three (m2,
Mario, Reed) of which one changes after the other two have spoken."""

SPEAKERS_PER_VARIANT = len(ACCENTS)

_TRACT_RATES = (19_200, 20_000, 20_800, 21_600, 22_400, 23_200, 24_000)
"""Hz at which espeak's 22,050 samples a second are played: the vocal tract of a larger or smaller
speaker, from 13 % longer to 9 % shorter. Multiples of 800 Hz, which resample cheaply."""
_RATES_WPM = (130, 200)
_PITCHES = (30, 70)
_PITCH_RANGES = (35, 65)
_RATE_JITTER = 0.08  # of a speaker's own rate, from one utterance to another
_PADDING_SECONDS = (0.08, 0.35)
_PEAKS_DB = (-20.0, -3.0)  # of full scale
_NOISE_DB = (-55.0, -30.0)  # level of the noise, of the speech's
_TILTS = (-0.25, 0.25)  # of a two-tap filter: up to 4 dB more or less at 8 kHz than at 0 Hz
_VOLUME = 60  # of espeak's 100: no voice clips


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """An accent, a voice, a pitch and a size of one's own."""

    name: str
    voice: str
    pitch: int
    pitch_range: int
    rate_wpm: int
    tract_rate: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """One utterance to be spoken."""

    id: str
    text: str
    speaker: Speaker
    path: Path
    seed: str
    language: str = "en"


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What came of an order: times in seconds from the start of the file, or why there is none."""

    order: Order
    words: list[Segment]
    phones: list[Segment]
    error: str = ""


def make_speakers(split: str, seed: int) -> list[Speaker]:
    """The speakers of a split, different voices in each; accents in turn, in an order of chance."""
    rng = Random(f"speakers {seed} {split}")
    speakers = [
        make_speaker(accent, variant, rng)
        for variant in VARIANTS[split].split()
        for accent in rng.sample(ACCENTS, SPEAKERS_PER_VARIANT)
    ]
    rng.shuffle(speakers)
    return speakers


def make_speaker(accent: str, variant: str, rng: Random) -> Speaker:
    """A voice of espeak-ng that speaks a language or an accent, at a pitch and a speed of chance."""
    pitch = rng.randint(*_PITCHES)
    return Speaker(
        name=f"{accent}_{variant}_p{pitch}",
        voice=f"{accent}+{variant}",
        pitch=pitch,
        pitch_range=rng.randint(*_PITCH_RANGES),
        rate_wpm=rng.randint(*_RATES_WPM),
        tract_rate=rng.choice(_TRACT_RATES),
    )


def speak_all(orders: Sequence[Order], *, num_workers: int) -> Iterator[Spoken]:
    """Writes the files and yields what came of each order, in their order.

    An utterance that crashes espeak is named; the others are spoken all the same. The samples do not
    depend on the number of processes. Each starts anew ("spawn") and inherits no
    threads or locks; a script of one's own that calls this needs ``if __name__ == "__main__":``.
    """
    if len(orders) < 2:
        yield from map(speak, orders)
        return
    num_workers = max(1, num_workers)
    done, workers = 0, num_workers
    while done < len(orders):
        try:
            for spoken in _spoken_by(orders[done:], workers):
                done += 1
                yield spoken
        except BrokenProcessPool:
            if workers == 1:  # so it was this one
                yield Spoken(
                    order=orders[done],
                    words=[],
                    phones=[],
                    error=f"espeak: the library crashed on {orders[done].text!r} in the voice "
                    f"{orders[done].speaker.voice}. Write it otherwise.",
                )
                done += 1
            workers = 1 if workers > 1 else num_workers


def _spoken_by(orders: Sequence[Order], workers: int) -> Iterator[Spoken]:
    """What comes of the orders until one of them kills its process; one worker takes them in turn."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_be_one_thread) as pool:
        at_once = 16 if workers > 1 else 1
        parts = [orders[first : first + at_once] for first in range(0, len(orders), at_once)]
        # Not pool.map: it cancels what is left while the pool, too, ends it.
        for future in [pool.submit(_speak_in_turn, part) for part in parts]:
            yield from future.result()


def _speak_in_turn(orders: Sequence[Order]) -> list[Spoken]:
    return [speak(order) for order in orders]


def speak(order: Order) -> Spoken:
    """Speaks one utterance and writes it as 16 kHz, 16 bit mono.

    Raises:
        ConfigError: The file cannot be written.
    """
    from speechmm.text.espeak.library import load_espeak

    rng = Random(order.seed)
    speaker = order.speaker
    jitter = rng.uniform(1 - _RATE_JITTER, 1 + _RATE_JITTER)
    espeak = load_espeak()
    stretch = espeak.sample_rate / speaker.tract_rate
    try:
        speech = espeak.synthesize(
            order.text,
            voice=speaker.voice,
            rate_wpm=round(speaker.rate_wpm * jitter * stretch),
            pitch=speaker.pitch,
            pitch_range=speaker.pitch_range,
            volume=_VOLUME,
            seed=rng.randrange(1, 1 << 31),
        )
    except SpeechmmError as error:
        return Spoken(order=order, words=[], phones=[], error=str(error))
    before, after = (round(rng.uniform(*_PADDING_SECONDS) * SAMPLE_RATE) for _ in range(2))
    waveform = _to_corpus_rate(speech.waveform, speaker.tract_rate)
    recorded = _record(np.pad(waveform, (before, after)), rng)
    write_audio(order.path, recorded, SAMPLE_RATE, ours=True)
    shift = before / SAMPLE_RATE
    return Spoken(
        order=order,
        words=[_moved(segment, stretch, shift) for segment in speech.words],
        phones=[_moved(segment, stretch, shift) for segment in speech.phones],
    )


def _be_one_thread() -> None:
    """The processes share the cores; more threads in each would only wait for one another."""
    os.environ["OMP_NUM_THREADS"] = "1"


def _to_corpus_rate(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    import torch

    from speechmm.audio.resample import resample

    new: NDArray[np.float32] = resample(
        torch.from_numpy(waveform), from_rate=sample_rate, to_rate=SAMPLE_RATE
    ).numpy()
    return new


def _record(waveform: NDArray[np.float32], rng: Random) -> NDArray[np.float32]:
    """As a microphone in a quiet room might give it; nothing is moved in time."""
    tilt = rng.uniform(*_TILTS)
    tilted = waveform.copy()
    tilted[1:] += tilt * waveform[:-1]
    noise_generator = np.random.default_rng(rng.getrandbits(64))
    noise = noise_generator.standard_normal(len(tilted), dtype=np.float32)
    noise[1:] += 0.7 * noise[:-1].copy()
    level = float(np.sqrt(np.mean(tilted**2))) * 10 ** (rng.uniform(*_NOISE_DB) / 20)
    noisy = tilted + noise * (level / float(noise.std()))
    peak = 10 ** (rng.uniform(*_PEAKS_DB) / 20)
    recorded: NDArray[np.float32] = (noisy * (peak / float(np.abs(noisy).max()))).astype(np.float32)
    return recorded


def _moved(segment: Segment, stretch: float, shift: float) -> Segment:
    start, end = (seconds * stretch + shift for seconds in (segment.start, segment.end))
    return replace(segment, start=start, end=end)
