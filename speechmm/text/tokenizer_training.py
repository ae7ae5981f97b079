"""Trains a tokenizer on texts: characters, phones, or SentencePiece's BPE or unigram pieces."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

from speechmm.errors import ConfigError
from speechmm.text.borrowed_pieces import borrow_pieces
from speechmm.text.normalize import DEFAULT_NORMALIZER, check_normalizer, normalize
from speechmm.text.tokenizer import (
    BLANK,
    BOS,
    EOS,
    SENTENCEPIECE_KINDS,
    SIL,
    SPACE,
    SPECIALS,
    UNK,
    Tokenizer,
    check_kind,
    phones_of,
)

DEFAULT_VOCAB_SIZE = 500
"""Of bpe and unigram, where the texts have enough different pieces."""
DEFAULT_LANGUAGE = "en-us"
"""Whose pronunciations a phone tokenizer has; a voice of espeak-ng."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: str,
    vocab_size: int | None = None,
    normalizer: str = DEFAULT_NORMALIZER,
    language: str = DEFAULT_LANGUAGE,
    pieces_of: Path | None = None,
) -> Tokenizer:
    """Train a tokenizer on the texts of a corpus, or choose the pieces of another that can write them.

    Args:
        texts: the training texts, as written; they are normalised here.
        kind: ``char``, ``bpe``, ``unigram`` or ``phone``.
        vocab_size: ids in all, the five special ones included; for bpe and unigram only.
            Without it, at most 500, less where the texts are too few for that many pieces.
            A unigram tokenizer may come out smaller.
        normalizer: name of the normalizer every text goes through.
        language: espeak-ng voice that pronounces the words; for phone only.
        pieces_of: folder of a Whisper model; of its pieces those become a bpe tokenizer that consist of
            letters of the texts, so that its decoder can be taken over.

    Raises:
        ConfigError: a wrong name, no text at all, or a vocabulary size that cannot be reached.
        CheckpointError: the folder has no vocabulary.
    """
    check_kind(kind)
    check_normalizer(normalizer)
    if pieces_of is not None and kind != "bpe":
        raise ConfigError(
            f"pieces_of is {pieces_of} and kind {kind}; expected bpe, as its pieces are. Choose that."
        )
    normal = [text for text in (normalize(text, normalizer) for text in texts) if text]
    if not normal:
        raise ConfigError(
            "tokenizer texts: found no words; expected at least one text that is not empty "
            f'after the normalizer "{normalizer}". Check the cuts and the normalizer.'
        )
    if kind in SENTENCEPIECE_KINDS:
        if pieces_of is not None:
            model = borrow_pieces(pieces_of, set("".join(normal)) - {" "}, vocab_size)
        else:
            model = _train_sentencepiece(normal, kind, vocab_size)
        pieces = _sentencepiece_pieces(model)
        return Tokenizer(
            kind=kind, normalizer=normalizer, language=language, pieces=pieces, sentencepiece=model
        )
    if vocab_size is not None:
        raise ConfigError(
            f"vocab_size: found {vocab_size} for a {kind} tokenizer; expected none, because its "
            "size follows from the texts. Leave it out, or choose bpe or unigram."
        )
    words = {word for text in normal for word in text.split()}
    units = {unit for word in words for unit in _units(kind, word, language)} - {SPACE}
    pieces = [*SPECIALS, SPACE, *sorted(units)]
    return Tokenizer(kind=kind, normalizer=normalizer, language=language, pieces=pieces)


def _units(kind: str, word: str, language: str) -> Iterable[str]:
    return phones_of(word, language) if kind == "phone" else word


def _train_sentencepiece(texts: list[str], kind: str, vocab_size: int | None) -> bytes:
    import sentencepiece

    smallest = len(SPECIALS) + len({SPACE, *"".join(texts)} - {" "})
    if vocab_size is not None and vocab_size < smallest:
        raise ConfigError(
            f"vocab_size: found {vocab_size}; expected at least {smallest}, one id for each "
            "character of the texts and five special ones. Give a larger size."
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size or max(DEFAULT_VOCAB_SIZE, smallest),
            hard_vocab_limit=kind == "bpe" and vocab_size is not None,
            character_coverage=1.0,
            byte_fallback=False,
            normalization_rule_name="identity",
            max_sentence_length=max(4192, *(4 * len(text) + 16 for text in texts)),
            num_threads=1,  # with more, rounding makes reruns differ
            minloglevel=2,
            pad_id=BLANK,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            pad_piece=SPECIALS[BLANK],
            unk_piece=SPECIALS[UNK],
            bos_piece=SPECIALS[BOS],
            eos_piece=SPECIALS[EOS],
            control_symbols=[SPECIALS[SIL]],
        )
    except RuntimeError as error:
        raise _vocabulary_error(error, vocab_size) from error
    return model.getvalue()


def _vocabulary_error(error: RuntimeError, vocab_size: int | None) -> ConfigError:
    largest = re.search(r"value <= (\d+)", str(error))
    if largest:
        return ConfigError(
            f"vocab_size: found {vocab_size}; expected at most {largest[1]}, all these texts "
            "can fill. Give a smaller size or more text."
        )
    return ConfigError(
        f"tokenizer texts: SentencePiece cannot learn from them ({error}); expected more text. "
        "Give more cuts, another vocabulary size, or the kind char."
    )


def _sentencepiece_pieces(model: bytes) -> list[str]:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
