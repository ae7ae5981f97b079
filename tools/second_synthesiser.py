"""Makes a second spoken corpus with flite and festival: exact times of every word and phone.

    python tools/second_synthesiser.py OUT [--train 500] [--dev 12] [--test 120] [--seed 0] [--rooms]

The texts are those of ``speechmm prepare synth``; the voices are not espeak's, so that an aligner
can be measured on voices of another make. Two speakers are in the test only. Needs Debian's
packages flite, festival, festlex-cmu, festlex-poslex, festvox-kallpc16k, festvox-kdlpc16k and
festvox-us-slt-hts. Writes ``OUT/audio`` and, as ``prepare`` does, ``OUT/{train,dev,test}.jsonl.gz``
and ``OUT/prepare.json``. With ``--rooms`` every utterance has noise 5 to 20 dB below the speech, and
half of them the echo of a room (0.2 to 0.6 s), which begins with the direct sound. The same seed
gives the same texts, speeds, levels and noises.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_char_p, c_float, c_int, c_short, c_void_p
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
import torch
from lhotse.supervision import AlignmentItem
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from speechmm.alignments import Segment
from speechmm.audio.resample import resample
from speechmm.data.corpora.synth.grammar import sentences
from speechmm.data.prepared import write_corpus
from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance, make_split_cuts

SAMPLE_RATE = 16_000
TRAINED = ("flite-kal16", "flite-rms", "flite-slt", "festival-kal", "festival-slt")
"""Voices of train and dev: three speakers; kal and slt are there in two makes each."""
HELD_OUT = ("flite-awb", "festival-ked")
"""Voices of test, of two other speakers: a Scot and an American."""
FESTIVAL_NAMES = {"kal": "kal_diphone", "ked": "ked_diphone", "slt": "cmu_us_slt_arctic_hts"}

_STRETCHES = (0.8, 1.3)  # of a voice's own durations
_PADDING_SECONDS = (0.0, 0.3)  # beside the silence every voice begins and ends with
_PEAKS_DB = (-20.0, -3.0)  # of full scale
_NOISE_DB = (-55.0, -30.0)  # level of the noise, of the speech's
_LOUD_NOISE_DB = (-20.0, -5.0)  # the same with --rooms
_ROOM_SHARE = 0.5
_ROOM_SECONDS = (0.2, 0.6)  # until an echo has fallen by 60 dB
_ECHO_DB = (-12.0, 0.0)  # energy of the echo, of the direct sound's

_SCHEME = """
(defvar hts_engine_params nil)
(voice_VOICE)
(set! own_params hts_engine_params)
(define (rows utt relation start end)
  (mapcar
    (lambda (item) (format t "%s\\t%s\\t%f\\t%f\\n" relation (item.name item)
                     (item.feat item start) (item.feat item end)))
    (utt.relation.items utt relation)))
(define (say text stretch file)
  (Parameter.set 'Duration_Stretch stretch)
  (set! hts_engine_params (cons (list "-r" (/ 1 stretch)) own_params))
  (let ((utt (utt.synth (eval (list 'Utterance 'Text text)))))
    (utt.save.wave utt file 'riff)
    (format t "Utterance\\n")
    (rows utt 'Word "word_start" "word_end")
    (rows utt 'Segment "segment_start" "segment_end")))
"""
"""``hts_engine_params`` is what HTS voices have in place of the parameter; others never read it."""


@dataclass(frozen=True)
class Order:
    """One utterance to be spoken."""

    id: str
    voice: str
    text: str
    stretch: float


@dataclass(frozen=True)
class Speech:
    """One utterance as the synthesiser said it: times in seconds from the first sample."""

    waveform: NDArray[np.float32]
    sample_rate: int
    words: list[Segment]
    phones: list[Segment]  # "pau" is a pause


class _Wave(ctypes.Structure):
    """``cst_wave``."""

    _fields_ = (("type", c_char_p), ("sample_rate", c_int), ("num_samples", c_int),
                ("num_channels", c_int), ("samples", POINTER(c_short)))  # fmt: skip


_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "flite_synth_text": (c_void_p, [c_char_p, c_void_p]),
    "flite_feat_set_float": (None, [c_void_p, c_char_p, c_float]),
    "utt_wave": (POINTER(_Wave), [c_void_p]),
    "utt_relation": (c_void_p, [c_void_p, c_char_p]),
    "relation_head": (c_void_p, [c_void_p]),
    "item_next": (c_void_p, [c_void_p]),
    "flite_ffeature_string": (c_char_p, [c_void_p, c_char_p]),
    "flite_ffeature_float": (c_float, [c_void_p, c_char_p]),
    "delete_utterance": (None, [c_void_p]),
}


class Flite:
    """A voice of flite, by its C library."""

    def __init__(self, voice: str) -> None:
        self._library = ctypes.CDLL("libflite.so.1")
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._library.flite_init()
        register = getattr(ctypes.CDLL(f"libflite_cmu_us_{voice}.so.1"), f"register_cmu_us_{voice}")
        register.restype, register.argtypes = c_void_p, [c_void_p]
        self._voice = register(None)
        self._features = ctypes.cast(self._voice, POINTER(c_void_p))[1]  # cst_voice.features

    def say(self, text: str, stretch: float) -> Speech:
        """Says a text; a word lasts from its first phone's start to its last phone's end."""
        flite = self._library
        flite.flite_feat_set_float(self._features, b"duration_stretch", stretch)
        utterance = flite.flite_synth_text(text.encode(), self._voice)
        wave = flite.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,))  # flite's memory
        first, last = "R:SylStructure.daughter1.daughter1", "R:SylStructure.daughtern.daughtern"
        speech = Speech(
            waveform=samples.astype(np.float32) / np.float32(32768),
            sample_rate=wave.sample_rate,
            words=list(self._items(utterance, "Word", f"{first}.R:Segment.p.end", f"{last}.end")),
            phones=list(self._items(utterance, "Segment", "p.end", "end")),
        )
        flite.delete_utterance(utterance)
        return speech

    def _items(self, utterance: int, relation: str, start: str, end: str) -> Iterator[Segment]:
        flite = self._library
        item = flite.relation_head(flite.utt_relation(utterance, relation.encode()))
        while item:
            label = flite.flite_ffeature_string(item, b"name").decode()
            begin, stop = (flite.flite_ffeature_float(item, x.encode()) for x in (start, end))
            yield Segment(label=label, start=begin, end=stop)
            item = flite.item_next(item)


def say_with_festival(orders: Sequence[Order], voice: str) -> Iterator[Speech]:
    """Says orders in one run of the program."""
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{order.id}.wav" for order in orders]
        script = Path(name) / "say.scm"
        lines = [_SCHEME.replace("VOICE", FESTIVAL_NAMES[voice])]
        for order, file in zip(orders, files, strict=True):
            lines.append(f'(say "{order.text}" {order.stretch} "{file}")\n')
        script.write_text("".join(lines), encoding="ascii")
        printed = subprocess.check_output(["festival", "-b", script], text=True)
        for block, file in zip(printed.split("Utterance\n")[1:], files, strict=True):
            found: dict[str, list[Segment]] = {"Word": [], "Segment": []}
            for row in block.splitlines():
                relation, label, start, end = row.split("\t")
                found[relation].append(Segment(label=label, start=float(start), end=float(end)))
            waveform, rate = soundfile.read(file, dtype="float32")
            yield Speech(waveform, rate, found["Word"], found["Segment"])


def say(orders: Sequence[Order]) -> Iterator[Speech]:
    """Says orders of one voice."""
    maker, _, voice = orders[0].voice.partition("-")
    if maker == "festival":
        return say_with_festival(orders, voice)
    flite = Flite(voice)
    return (flite.say(order.text, order.stretch) for order in orders)


def record(speech: Speech, order: Order, path: Path, *, rooms: bool = False) -> Utterance:
    """Writes the file as a microphone in a quiet room might give it, and describes it.

    Args:
        speech: What was said.
        order: What was to be said.
        path: Of the file.
        rooms: Whether it is noisy, and now and then a room that echoes.
    """
    rng = Random(order.id)
    samples = torch.from_numpy(speech.waveform)
    dry = resample(samples, from_rate=speech.sample_rate, to_rate=SAMPLE_RATE).numpy()
    before, after = (round(rng.uniform(*_PADDING_SECONDS) * SAMPLE_RATE) for _ in range(2))
    decibels = rng.uniform(*(_LOUD_NOISE_DB if rooms else _NOISE_DB))
    level = float(np.sqrt(np.mean(dry**2))) * 10 ** (decibels / 20)
    noisy = np.pad(dry, (before, after))
    if rooms and rng.random() < _ROOM_SHARE:
        noisy = echoing(noisy, rng)
    noisy += level * np.random.default_rng(rng.getrandbits(64)).standard_normal(len(noisy))
    peak = 10 ** (rng.uniform(*_PEAKS_DB) / 20)
    soundfile.write(path, noisy * (peak / np.abs(noisy).max()), SAMPLE_RATE, subtype="PCM_16")
    shift = before / SAMPLE_RATE
    words = [replace(a, label=b) for a, b in zip(speech.words, order.text.split(), strict=True)]
    phones = [phone for phone in speech.phones if phone.label != "pau"]
    alignment = {"word": to_items(words, shift), "phone": to_items(phones, shift)}
    return Utterance(
        id=order.id, audio=path, text=order.text, speaker=order.voice, alignment=alignment,
        language="en",
    )  # fmt: skip


def echoing(dry: NDArray[np.float32], rng: Random) -> NDArray[np.float32]:
    """The same in a room: the direct sound, unmoved, and an echo that decays exponentially."""
    seconds = rng.uniform(*_ROOM_SECONDS)
    times = np.arange(1, round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(times))
    tail *= np.exp(-np.log(1000.0) * times / seconds)
    tail *= 10 ** (rng.uniform(*_ECHO_DB) / 20) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    wet: NDArray[np.float32] = fftconvolve(dry, response)[: len(dry)].astype(np.float32)
    return wet


def to_items(spans: list[Segment], shift: float) -> list[AlignmentItem]:
    """What a manifest holds of segments that begin ``shift`` seconds later."""
    return [AlignmentItem(s.label, round(s.start + shift, 6), round(s.duration, 6)) for s in spans]


def make_corpus(out: Path, sizes: dict[str, int], seed: int, *, rooms: bool = False) -> SkipReport:
    """Speaks ``sizes[split]`` utterances with each voice of a split and writes the manifests."""
    report = SkipReport(strict=False)
    splits: dict[str, list[Utterance]] = {split: [] for split in sizes}
    said: frozenset[str] = frozenset()
    for split, size in sizes.items():
        voices = HELD_OUT if split == "test" else TRAINED
        folder = (out / "audio" / split).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        texts = list(islice(sentences(f"second {seed} {split}", avoid=said), size * len(voices)))
        said |= frozenset(texts)
        rng = Random(f"second {seed} {split}")
        for place, voice in enumerate(voices if size else ()):
            orders = []
            for n, text in enumerate(texts[place :: len(voices)]):
                stretch = round(rng.uniform(*_STRETCHES), 3)
                orders.append(Order(f"{voice}-{split}-{n:04d}", voice, text, stretch))
            for order, speech in zip(orders, say(orders), strict=True):
                found = " ".join(word.label for word in speech.words)
                if found != order.text.replace("'", ""):
                    report.add(order.id, f'spoken as "{found}"; expected "{order.text}"')
                    continue
                splits[split].append(record(speech, order, folder / f"{order.id}.wav", rooms=rooms))
    cuts = make_split_cuts(splits, report, check="header")
    settings = {"corpus": Path(__file__).stem, "sizes": sizes, "seed": seed, "rooms": rooms}
    summary = write_corpus(cuts, out, report, settings=settings, source=out / "audio")
    print(*(f"{split}: {row}" for split, row in summary["splits"].items()), sep="\n")
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the corpus."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the corpus")
    for split, size in {"train": 500, "dev": 12, "test": 120}.items():
        parser.add_argument(f"--{split}", type=int, default=size, help="utterances of each voice")
    parser.add_argument("--seed", type=int, default=0, help="another one gives another corpus")
    parser.add_argument("--rooms", action="store_true", help="with noise and rooms")
    arguments = parser.parse_args(argv)
    sizes = {"train": arguments.train, "dev": arguments.dev, "test": arguments.test}
    make_corpus(arguments.out, sizes, arguments.seed, rooms=arguments.rooms).print(
        None, noun="utterances"
    )


if __name__ == "__main__":
    main()
