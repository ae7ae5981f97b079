"""Maps texts to token ids and back: characters, SentencePiece pieces or phones, in one JSON file."""

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import eq
from pathlib import Path
from typing import Any

from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.atomic import write_text
from speechmm.files.json_text import fits, read_json
from speechmm.text.normalize import check_normalizer, normalize

FORMAT = "speechmm-tokenizer/1"
KINDS = ("char", "bpe", "unigram", "phone")
SENTENCEPIECE_KINDS = ("bpe", "unigram")

BLANK, UNK, BOS, EOS, SIL = range(5)
SPECIALS = ("<blank>", "<unk>", "<bos>", "<eos>", "<sil>")
SPACE = "▁"
"""The piece between words (char, phone) or the mark at the start of a word (bpe, unigram)."""
UNKNOWN = "⁇"
"""What an unknown token decodes to."""


@dataclass(frozen=True)
class AlignedTokens:
    """A text as the aligner takes it: optional silence before, between and after words."""

    ids: list[int]
    """SIL w1 SIL w2 ... SIL, of ``Tokenizer.align_pieces``."""
    word_indices: list[int]
    """For each id the index of its word in ``words``; -1 for silence."""
    words: list[str]
    """The words of the text, verbatim; one without any id has no entry in ``word_indices``."""
    pronounced: bool = False
    """Whether the words are phones that recognition has written, and no longer words to pronounce."""


@dataclass(frozen=True)
class ExaminedText:
    """What a text is to a tokenizer."""

    normal: str
    """Normalised."""
    ids: list[int]
    """As ``Tokenizer.encode`` gives them."""
    aligned: int
    """How many ids ``Tokenizer.encode_aligned`` gives."""
    unknown: set[str]
    """Characters (phones, for that kind) that become UNK."""

    @property
    def is_unknown(self) -> bool:
        """Whether nothing of it is known."""
        return all(token == UNK for token in self.ids)

    @property
    def ctc_frames(self) -> int:
        """Fewest encoder frames in which CTC can write it: one each, and a blank between equal ones."""
        repeats: int = sum(map(eq, self.ids, self.ids[1:]))
        return len(self.ids) + repeats


class Tokenizer:
    """Maps texts to ids and ids to texts. Make one with ``train_tokenizer`` or ``load``.

    The first five ids are the same for every kind: BLANK, UNK, BOS, EOS, SIL. Recognition writes
    ``pieces``; alignment places ``align_pieces``, which are characters where the pieces are
    SentencePiece's, else the pieces themselves.
    """

    def __init__(
        self,
        *,
        kind: str,
        normalizer: str,
        language: str,
        pieces: Sequence[str],
        sentencepiece: bytes | None = None,
    ) -> None:
        check_kind(kind)
        check_normalizer(normalizer)
        if tuple(pieces[: len(SPECIALS)]) != SPECIALS:
            raise ConfigError(
                f"tokenizer pieces: found {list(pieces[:5])} at the start; expected "
                f'{list(SPECIALS)}. Train it again with "speechmm tokenizer".'
            )
        if (sentencepiece is not None) != (kind in SENTENCEPIECE_KINDS):
            raise ConfigError(
                f"tokenizer: a {kind} tokenizer {'without' if sentencepiece is None else 'with'} "
                "a SentencePiece model; expected a model for bpe and unigram only. "
                'Train it again with "speechmm tokenizer".'
            )
        if kind not in SENTENCEPIECE_KINDS and SPACE not in pieces:
            raise ConfigError(
                f'tokenizer pieces: no space among them; expected "{SPACE}". Train it again with '
                '"speechmm tokenizer".'
            )
        self.kind = kind
        self.normalizer = normalizer
        self.language = language
        self.pieces = list(pieces)
        self.sentencepiece = sentencepiece

    @property
    def vocab_size(self) -> int:
        """Number of ids, the five special ones included."""
        return len(self.pieces)

    @cached_property
    def align_pieces(self) -> list[str]:
        """What the aligner places in time: the special pieces, then characters or phones."""
        if self.kind not in SENTENCEPIECE_KINDS:
            return self.pieces
        characters = set("".join(self.pieces[len(SPECIALS) :])) - {SPACE}
        return [*SPECIALS, *sorted(characters)]

    @property
    def align_vocab_size(self) -> int:
        """Number of ids of ``align_pieces``."""
        return len(self.align_pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text, without bos, eos or silence; unknown characters become UNK."""
        return self._encode_normal(normalize(text, self.normalizer))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids: special ids are dropped, UNK becomes "⁇", spaces are collapsed."""
        text = "".join(UNKNOWN if i == UNK else self.pieces[i] for i in ids if i in self._spoken)
        return " ".join(text.replace(SPACE, " ").split())

    def encode_words(self, text: str) -> list[tuple[str, list[int]]]:
        """Each white-space word of the text as written, with the ids of that word alone.

        A word that normalises to nothing, such as a dash, has no ids; one that normalises to
        several words, such as "twenty-two", has the ids of all of them. The space piece of char
        and phone tokenizers is left out: the aligner puts silence between words instead.
        """
        return [(word, list(self._word_ids(word))) for word in text.split()]

    def encode_aligned(self, text: str) -> AlignedTokens:
        """The text as the aligner takes it, with silence before, between and after words."""
        words = text.split()
        ids, word_indices = [SIL], [-1]
        for index, word in enumerate(words):
            word_ids = self._align_ids(word)
            if word_ids:
                ids += [*word_ids, SIL]
                word_indices += [index] * len(word_ids) + [-1]
        return AlignedTokens(ids, word_indices, words)

    def encode_spans(self, word: str) -> list[tuple[int, int]]:
        """Ids as recognition writes one word, each with the number of aligned tokens it covers.

        The numbers add up to the aligned tokens of the word; a space piece covers none.
        """
        normal = normalize(word, self.normalizer)
        if self.kind not in SENTENCEPIECE_KINDS:
            return [(i, self.aligned_counts[i]) for i in self._encode_normal(normal)]
        surfaces = self._processor.encode(normal, out_type=str)  # unknown characters as they are
        lengths = [len(surface.replace(SPACE, "")) for surface in surfaces]
        return list(zip(self._encode_normal(normal), lengths, strict=True))

    @cached_property
    def aligned_counts(self) -> list[int]:
        """How many aligned tokens each id of recognition stands for; a space piece for none.

        UNK counts as one; of SentencePiece it may be several unknown characters, and only
        :meth:`encode_spans` knows how many.
        """
        whole = self.kind not in SENTENCEPIECE_KINDS
        counts = [int(i == UNK) for i in range(len(SPECIALS))]
        for piece in self.pieces[len(SPECIALS) :]:
            length = len(piece.replace(SPACE, ""))
            counts.append(min(length, 1) if whole else length)
        return counts

    @property
    def separator(self) -> int | None:
        """The id recognition writes between two words; None where pieces bring their own space."""
        return None if self.kind in SENTENCEPIECE_KINDS else self._id_of[SPACE]

    def token_labels(self, ids: Sequence[int]) -> list[str]:
        """A readable label for each aligned id: "h", "oʊ"; "" for silence and other specials."""
        return [
            UNKNOWN if i == UNK else self.align_pieces[i] if self._is_unit(i) else "" for i in ids
        ]

    def _is_unit(self, i: int) -> bool:
        return len(SPECIALS) <= i < self.align_vocab_size and self.align_pieces[i] != SPACE

    def examine(self, text: str) -> ExaminedText:
        """Looks at a text for all that says whether it can be trained on, normalising it once."""
        normal = normalize(text, self.normalizer)
        ids = self._encode_normal(normal)
        aligned = 1 + sum(len(ids) + 1 for ids in map(self._align_ids, text.split()) if ids)
        return ExaminedText(normal, ids, aligned, self._unknown(normal))

    def unknown_characters(self, text: str) -> set[str]:
        """Characters (phones, for that kind) of the normalised text that would become UNK."""
        return self._unknown(normalize(text, self.normalizer))

    def _unknown(self, normal: str) -> set[str]:
        if self.kind == "phone":
            units = {phone for word in normal.split() for phone in self._phones(word)}
        else:
            units = set(normal) - {" "}
        return units - self._known_units

    def to_dict(self) -> dict[str, Any]:
        """What the JSON file holds."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "normalizer": self.normalizer,
            "language": self.language,
            "pieces": self.pieces,
        }
        if self.sentencepiece is not None:
            data["sentencepiece"] = base64.b64encode(self.sentencepiece).decode("ascii")
        return data

    def save(self, path: Path | str, *, made_from: dict[str, Any] | None = None) -> None:
        """Write the JSON file, aside and then under its name.

        Args:
            path: the file to write; its folder is made when missing.
            made_from: settings and inputs to record in the file, so that a rerun can tell
                whether anything has changed.
        """
        data = self.to_dict()
        if made_from is not None:
            data["made_from"] = made_from
        write_text(Path(path), json.dumps(data, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Read a tokenizer file.

        Raises:
            CheckpointError: the file is missing, damaged or of another kind.
        """
        data = _read_json(Path(path))
        try:
            model = data.get("sentencepiece")
            tokenizer = cls(
                kind=data["kind"],
                normalizer=data["normalizer"],
                language=data["language"],
                pieces=data["pieces"],
                sentencepiece=None if model is None else base64.b64decode(model, validate=True),
            )
            tokenizer.encode("")  # a damaged SentencePiece model shows here, not in mid-training
        except (LookupError, TypeError, ValueError, RuntimeError, ConfigError) as error:
            raise CheckpointError(
                f"{path}: not a usable tokenizer ({error}); expected a file written by "
                '"speechmm tokenizer". Make it again.'
            ) from error
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        """State for worker processes; what can be rebuilt (caches) stays behind."""
        names = ("kind", "normalizer", "language", "pieces", "sentencepiece")
        return {name: self.__dict__[name] for name in names}

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {p: i for i, p in enumerate(self.pieces) if i >= len(SPECIALS)}

    @cached_property
    def _known_units(self) -> set[str]:
        """What is not unknown in a text; the sign for a space is."""
        return self._id_of.keys() - {SPACE}

    @cached_property
    def _id_of_letter(self) -> dict[str, int]:
        """Of every character of a normalised text, unknown ones and the space between words too."""
        known = {unit: self._id_of[unit] for unit in self._known_units}
        return defaultdict(lambda: UNK, {**known, " ": self._id_of[SPACE]})

    @cached_property
    def _align_id_of(self) -> dict[str, int]:
        return {p: i for i, p in enumerate(self.align_pieces) if i >= len(SPECIALS)}

    @cached_property
    def _spoken(self) -> frozenset[int]:
        """Ids that decode to something."""
        return frozenset([UNK, *range(len(SPECIALS), len(self.pieces))])

    @cached_property
    def _word_cache(self) -> dict[str, tuple[int, ...]]:
        return {}

    @cached_property
    def _align_cache(self) -> dict[str, tuple[int, ...]]:
        return {}

    @cached_property
    def _processor(self) -> Any:
        import sentencepiece

        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=self.sentencepiece)
        except RuntimeError as error:
            raise ConfigError(f"its SentencePiece model is damaged: {error}") from error
        if processor.get_piece_size() != len(self.pieces):
            raise ConfigError(
                f"its SentencePiece model has {processor.get_piece_size()} pieces and the file "
                f"lists {len(self.pieces)}"
            )
        return processor

    def _word_ids(self, word: str) -> tuple[int, ...]:
        if word not in self._word_cache:
            space = self._id_of[SPACE] if self.kind in ("char", "phone") else None
            self._word_cache[word] = tuple(i for i in self.encode(word) if i != space)
        return self._word_cache[word]

    def _align_ids(self, word: str) -> tuple[int, ...]:
        if self.kind not in SENTENCEPIECE_KINDS:
            return self._word_ids(word)
        if word not in self._align_cache:
            normal = normalize(word, self.normalizer).replace(" ", "").replace(SPACE, "")
            ids = (self._align_id_of.get(character, UNK) for character in normal)
            self._align_cache[word] = tuple(ids)
        return self._align_cache[word]

    def _encode_normal(self, text: str) -> list[int]:
        if self.kind in SENTENCEPIECE_KINDS:
            ids: list[int] = self._processor.encode(text, out_type=int)
            return ids
        if self.kind == "char":
            return list(map(self._id_of_letter.__getitem__, text))
        ids = []
        for word in text.split(" ") if text else []:
            units = self._phones(word)
            if ids and units:
                ids.append(self._id_of[SPACE])
            ids += [UNK if unit == SPACE else self._id_of.get(unit, UNK) for unit in units]
        return ids

    def _phones(self, word: str) -> list[str]:
        return phones_of(word, self.language)


def phones_of(word: str, language: str) -> list[str]:
    """Pronunciation of one normalised word (imported here: most tokenizers never need it)."""
    from speechmm.text.phonemes import phonemize

    return phonemize(word, language)


def check_kind(kind: str) -> None:
    """Raise a ``ConfigError`` that lists the choices unless ``kind`` is a tokenizer kind."""
    if kind not in KINDS:
        raise ConfigError(
            f'tokenizer kind: found "{kind}"; expected one of {", ".join(KINDS)}. Correct it.'
        )


_SHAPE = {
    "kind": str,
    "normalizer": str,
    "language": (str, None),
    "pieces": [str],
}


def _read_json(path: Path) -> dict[str, Any]:
    data = read_json(
        path,
        expected='a file written by "speechmm tokenizer"',
        advice="Make it again.",
        error=CheckpointError,
    )
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f'{path}: format is {data.get("format")!r}; expected "{FORMAT}". '
            'Make the file with "speechmm tokenizer" of this version.'
        )
    if not fits(data, _SHAPE) or not fits(data.get("sentencepiece"), (str, None)):
        raise CheckpointError(
            f"{path}: not a usable tokenizer (values of other types); expected {', '.join(_SHAPE)} as "
            '"speechmm tokenizer" writes them. Make it again.'
        )
    return data
