"""Calls espeak-ng through ctypes: speech with the exact times of its phones, and pronunciations.

The library and its voices come with the wheel ``espeakng-loader`` (the extra ``synth``). The same
call gives the same samples, in any process and after any other call: espeak keeps its noise,
flutter and pitch phase from one utterance to the next, so the library is loaded afresh for each
(2 ms).
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechmm.alignments import Segment
from speechmm.errors import ConfigError
from speechmm.text.espeak.events import Event, clean_phone, read_events

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: retrieval through the callback, no thread
_OPTIONS = 0x0001 | 0x0002 | 0x8000  # PHONEME_EVENTS, named in IPA, DONT_EXIT
_UTF8 = 1  # espeakCHARS_UTF8
_IPA_MODE = 0x02 | ord("_") << 8  # phonemes in IPA with "_" between them
_PARAMETERS = {"rate_wpm": 1, "volume": 2, "pitch": 3, "pitch_range": 4}  # espeak_PARAMETER
_RANGES = {"rate_wpm": (80, 450), "volume": (0, 200), "pitch": (0, 99), "pitch_range": (0, 100)}
_ECHO_LEFT = (
    0.004  # of the peak: what the removal of an echo leaves in pauses (0.1 to 0.2 %, measured)
)
_WORD, _PHONEME = 1, 7  # espeak_EVENT_TYPE; 0 ends a list

_lock = threading.Lock()


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """``espeak_EVENT``. Its ``audio_position`` is ``sample`` rounded to milliseconds: not used."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class _Voice(ctypes.Structure):
    """``espeak_VOICE``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, kw_only=True)
class Speech:
    """One utterance as espeak said it."""

    waveform: NDArray[np.float32]
    """Mono in [-1, 1]; ends with the last phone."""
    sample_rate: int
    """Hz; 22,050 for every voice of the wheel."""
    words: list[Segment]
    """One for each whitespace word of the text, in its order and with its letters."""
    phones: list[Segment]
    """IPA without stress marks. Pauses are the gaps between segments."""


@lru_cache(maxsize=1)
def load_espeak() -> Espeak:
    """The library, loaded once in a process.

    Raises:
        ConfigError: The extra ``synth`` is not installed.
    """
    return Espeak()


class Espeak:
    """The library; may be called from any thread. Get it by `load_espeak`."""

    def __init__(self) -> None:
        self._path, self._data = _find_library()
        self._audio: list[bytes] = []
        self._events: list[Event] = []
        self._callback = _Callback(self._receive)  # kept: the library holds a bare pointer
        with self._fresh_library() as library:
            self._identifiers = _list_languages(library)

    @property
    def languages(self) -> list[str]:
        """Codes of the languages and accents that can be spoken, such as "en-us"."""
        return sorted(self._identifiers)

    @property
    def variants(self) -> list[str]:
        """Names of the voices any language can be spoken with, such as "f3"."""
        return sorted(path.name for path in (self._data / "voices" / "!v").iterdir())

    def synthesize(
        self,
        text: str,
        *,
        voice: str = "en-us",
        rate_wpm: int = 175,
        pitch: int = 50,
        pitch_range: int = 50,
        volume: int = 100,
        seed: int = 1,
    ) -> Speech:
        """Say a text.

        Args:
            text: What to say. Times are given for what stands between white space: a number in
                digits is one word, however many it is read as.
            voice: A language code and, after a plus sign, a variant: "en-us+f3".
            rate_wpm: Words a minute, 80 to 450.
            pitch: 0 to 99.
            pitch_range: 0 (monotone) to 100.
            volume: 0 to 200; some voices clip above 100.
            seed: Of the noise in fricatives.

        Raises:
            ConfigError: There is no such voice, a value is out of range, or the text is empty.
            AlignmentError: A word of the text has no sound (a lone sign, for example).
        """
        if not text.split():
            raise ConfigError("espeak: the text is empty; expected words to say. Give some.")
        settings = {
            "rate_wpm": rate_wpm,
            "pitch": pitch,
            "pitch_range": pitch_range,
            "volume": volume,
        }
        identifier = self._identify(voice)
        with self._fresh_library(seed) as library:
            _set_voice(library, identifier)
            for name, value in settings.items():
                _check_range(name, value)
                library.espeak_SetParameter(_PARAMETERS[name], value, 0)
            self._audio, self._events = [], []
            encoded = text.encode()
            size = ctypes.c_size_t(len(encoded) + 1)
            library.espeak_Synth(encoded, size, 0, 1, 0, _UTF8, None, None)
            wet, events = np.frombuffer(b"".join(self._audio), dtype=np.int16), self._events
        language = voice.partition("+")[0]
        rate = self.sample_rate
        dry, quiet = self._without_echo(wet, voice)
        words, phones = read_events(
            text, events, dry, rate, lambda part: self.phonemes(part, language), quiet=quiet
        )
        spoken = wet[: round(phones[-1].end * rate)]
        return Speech(
            waveform=spoken.astype(np.float32) / np.float32(32768),
            sample_rate=rate,
            words=words,
            phones=phones,
        )

    def phonemes(self, text: str, language: str) -> list[list[str]]:
        """IPA phones, without stress marks, of each whitespace word said on its own.

        Raises:
            ConfigError: The language has no voice.
        """
        identifier = self._identify(language)
        with self._fresh_library() as library:
            _set_voice(library, identifier)
            return [_phones_of_word(library, word) for word in text.split()]

    @contextmanager
    def _fresh_library(self, seed: int = 1) -> Iterator[ctypes.CDLL]:
        """The library in the state it has at the start of a program."""
        with _lock:
            library = ctypes.CDLL(str(self._path))
            try:
                self._initialize(library, seed)
                yield library
            finally:
                library.espeak_Terminate()
                _ctypes.dlclose(library._handle)

    def _initialize(self, library: ctypes.CDLL, seed: int) -> None:
        parent = str(self._data.parent).encode()
        self.sample_rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, parent, _OPTIONS))
        if self.sample_rate <= 0:
            raise ConfigError(
                f"espeak: no voices in {self._data}; expected those of espeakng-loader. "
                'Reinstall it: pip install --force-reinstall "speechmm[synth]".'
            )
        library.espeak_SetSynthCallback(self._callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._audio.append(ctypes.string_at(samples, count * 2))
        for event in events:
            if event.type == 0:
                break
            if event.type == _WORD:
                self._events.append(Event("word", event.sample, event.text_position - 1))
            elif event.type == _PHONEME:
                label = clean_phone(event.id.string.decode(errors="ignore"))
                self._events.append(Event("phone", event.sample, event.text_position - 1, label))
        return 0

    def _identify(self, voice: str) -> bytes:
        """The library's own name of a voice."""
        language, plus, variant = voice.partition("+")
        if language not in self._identifiers:
            known = ", ".join(self.languages)
            raise ConfigError(f"espeak: no language '{language}'; expected one of {known}.")
        if plus and variant not in self.variants:
            known = ", ".join(self.variants)
            raise ConfigError(f"espeak: no voice variant '{variant}'; expected one of {known}.")
        return f"{self._identifiers[language]}{plus}{variant}".encode()

    def _without_echo(self, wet: NDArray[np.int16], voice: str) -> tuple[NDArray[np.int16], int]:
        """The samples without the echo some variants add, and how much of it is left in pauses."""
        delay_ms, amplitude = _echo_of(self._data / "voices" / "!v" / voice.partition("+")[2])
        delay = delay_ms * self.sample_rate // 1000
        if not delay or not amplitude:
            return wet, 0
        dry = wet.astype(np.int32)
        for start in range(delay, len(dry), delay):
            source = dry[start - delay : start][: len(dry) - start]
            dry[start : start + delay] -= (source * amplitude) >> 8
        left = round(float(np.abs(dry).max(initial=0)) * _ECHO_LEFT)
        return dry.clip(-32768, 32767).astype(np.int16), left


def _find_library() -> tuple[Path, Path]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise ConfigError(
            "espeak: espeakng-loader is not installed; synthetic speech and phones need it. "
            'Install it with: pip install "speechmm[synth]".'
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _list_languages(library: ctypes.CDLL) -> dict[str, str]:
    """The library's name of the best voice of each language code."""
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    best: dict[str, tuple[int, str]] = {}
    for entry in library.espeak_ListVoices(None):
        if not entry:
            break
        voice = entry.contents
        priority, code = voice.languages[0], voice.languages[1:].decode()
        identifier = voice.identifier.decode()
        if not identifier.startswith("mb/"):  # MBROLA voices are not in the wheel
            best[code] = min(best.get(code, (256, "")), (priority, identifier))
    return {code: identifier for code, (_, identifier) in best.items()}


def _set_voice(library: ctypes.CDLL, identifier: bytes) -> None:
    status = library.espeak_SetVoiceByName(identifier)
    if status != 0:
        raise ConfigError(
            f"espeak: voice '{identifier.decode()}' cannot be loaded (status {status}); expected "
            'the voices of espeakng-loader. Reinstall it: pip install "speechmm[synth]".'
        )


def _check_range(name: str, value: int) -> None:
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise ConfigError(f"espeak: {name} is {value}; expected {low} to {high}.")


def _phones_of_word(library: ctypes.CDLL, word: str) -> list[str]:
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    encoded = ctypes.create_string_buffer(word.encode())
    pointer = ctypes.c_void_p(ctypes.addressof(encoded))
    found: list[str] = []
    while pointer.value:  # moved past one clause at a time, NULL after the last
        spoken = library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA_MODE) or b""
        for part in spoken.decode(errors="replace").split():
            found += [phone for label in part.split("_") if (phone := clean_phone(label))]
    return found


def _echo_of(variant: Path) -> tuple[int, int]:
    """Delay in ms and amplitude in 1/256 of a variant's echo; (0, 0) where it has none."""
    if variant.is_file():
        for line in variant.read_text("utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) >= 3 and fields[0] == "echo":
                return int(fields[1]), int(fields[2])
    return 0, 0
