"""Chooses pieces of a published byte-level BPE, as Whisper's, for a tokenizer that can take its vectors.

Byte-level BPE (Radford et al. 2019, section 2.2) writes a text as bytes, each as a letter of an alphabet
of its own. Here its pieces are written as text, and SentencePiece cuts words into them. Pieces keep their
order, by which both merge, so that words are cut the same way but for rare ones whose pieces can be put
together in more than one way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.json_text import fits, read_json
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL, SPACE, SPECIALS, UNK

TOKENIZER, VOCABULARY, ADDED = "tokenizer.json", "vocab.json", "added_tokens.json"
"""Of a folder in Hugging Face's layout: all tokens in the first, or those of texts and the others apart."""


def vocabulary_files(folder: Path) -> list[Path]:
    """The files that hold a folder's vocabulary; none where there is none."""
    if (folder / TOKENIZER).is_file():
        return [folder / TOKENIZER]
    if not (folder / VOCABULARY).is_file():
        return []
    return [path for path in (folder / VOCABULARY, folder / ADDED) if path.is_file()]


def read_vocabulary(folder: Path) -> dict[str, int]:
    """The number of every token of a folder: pieces in their alphabet of bytes, and marks (``<|de|>``).

    Raises:
        CheckpointError: There is no vocabulary, or it is damaged.
    """
    advice = f"Copy {TOKENIZER} (or {VOCABULARY} and {ADDED}) of the model into the folder."

    def read(path: Path) -> dict[str, Any]:
        return read_json(
            path, expected="a vocabulary of tokens", advice=advice, error=CheckpointError
        )

    found: dict[str, Any] = {}
    for path in vocabulary_files(folder) or [folder / TOKENIZER]:
        content = read(path)
        if path.name != TOKENIZER:
            found |= content
            continue
        model, added = content.get("model"), content.get("added_tokens")
        model = model if isinstance(model, dict) else {}
        vocabulary = model.get("vocab")
        found |= vocabulary if isinstance(vocabulary, dict) else {}
        for token in added if isinstance(added, list) else ():
            if isinstance(token, dict) and isinstance(token.get("content"), str):
                found[token["content"]] = token.get("id")
    if not found or not all(fits(number, int) and number >= 0 for number in found.values()):
        raise CheckpointError(
            f"{folder}: its vocabulary has no numbers of tokens; expected those of byte-level BPE. {advice}"
        )
    return found


def text_pieces(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Pieces as text, with SentencePiece's mark for a space, and their numbers; no parts of letters."""
    bytes_of = _alphabet()
    pieces: dict[str, int] = {}
    for token, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        if not token or any(letter not in bytes_of for letter in token):
            continue
        try:
            text = bytes(bytes_of[letter] for letter in token).decode()
        except UnicodeDecodeError:
            continue
        if SPACE not in text and text.count(" ") <= text.startswith(" "):
            pieces.setdefault(text.replace(" ", SPACE), number)
    return pieces


def bytes_of_piece(piece: str) -> list[str]:
    """The letters of byte-level BPE that write a piece, each a token of its own."""
    letters = {byte: letter for letter, byte in _alphabet().items()}
    return [letters[byte] for byte in piece.replace(SPACE, " ").encode()]


def borrow_pieces(folder: Path, characters: Collection[str], vocab_size: int | None) -> bytes:
    """A SentencePiece model of the pieces that consist of some characters.

    Args:
        folder: With the vocabulary.
        characters: Of the texts, without the space. Those that are no piece themselves are added.
        vocab_size: Entries in all, the five special ones included: the pieces that were merged first.
            None for all.

    Raises:
        CheckpointError: There is no vocabulary, or it is no byte-level BPE.
        ConfigError: The size is too small for the characters.
    """
    known = {*characters, SPACE}
    found = [piece for piece in text_pieces(read_vocabulary(folder)) if known.issuperset(piece)]
    singles = [piece for piece in found if len(piece) == 1]
    if not singles:
        raise CheckpointError(
            f"{folder}: none of its pieces consists of the letters of the texts; expected byte-level BPE, "
            "as Whisper has. Give another model's folder, or train a tokenizer without it."
        )
    singles += sorted(known.difference(singles))
    longer = [piece for piece in found if len(piece) > 1]
    if vocab_size is not None:
        room = vocab_size - len(SPECIALS) - len(singles)
        if room < 0:
            raise ConfigError(
                f"vocab_size: found {vocab_size}; expected at least {len(SPECIALS) + len(singles)}, one id "
                "for each character of the texts and five special ones. Give a larger size."
            )
        longer = longer[:room]
    return _sentencepiece_model([*longer, *singles])


def _sentencepiece_model(pieces: list[str]) -> bytes:
    """BPE that merges earlier pieces first, with the toolkit's special pieces before them."""
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = proto.ModelProto()
    kinds = proto.ModelProto.SentencePiece
    for number, special in enumerate(SPECIALS):
        kind = kinds.UNKNOWN if number == UNK else kinds.CONTROL
        model.pieces.add(piece=special, score=0.0, type=kind)
    for rank, piece in enumerate(pieces):
        model.pieces.add(piece=piece, score=float(-rank), type=kinds.NORMAL)
    trainer = model.trainer_spec
    trainer.model_type = proto.TrainerSpec.BPE
    trainer.vocab_size = len(model.pieces)
    trainer.pad_id, trainer.unk_id, trainer.bos_id, trainer.eos_id = BLANK, UNK, BOS, EOS
    trainer.pad_piece, trainer.unk_piece = SPECIALS[BLANK], SPECIALS[UNK]
    trainer.bos_piece, trainer.eos_piece = SPECIALS[BOS], SPECIALS[EOS]
    trainer.control_symbols.append(SPECIALS[SIL])
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _alphabet() -> dict[str, int]:
    """The byte that each letter of byte-level BPE stands for: printable ones for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }
