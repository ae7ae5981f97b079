"""Whisper's decoder: equal to transformers', whatever the tokenizer leaves of its vocabulary."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechmm.errors import CheckpointError, ConfigError
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.pretrained.folder import read_pretrained
from speechmm.models.pretrained.whisper_decoder import WhisperDecoder, read_decoder, take_decoder
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.borrowed_pieces import read_vocabulary, text_pieces
from speechmm.text.tokenizer import EOS, SPECIALS, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer

tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["der bär und der über bart", "under the bear over there", "darüber der bär"]


class Whisper:
    """A random model of transformers, its folder, and the same decoder in a model of the toolkit."""

    def __init__(self, make, folder: Path, *, multilingual: bool = True, texts: list[str] = TEXTS):
        self.theirs = make(folder, TEXTS, multilingual=multilingual)
        self.folder = folder
        self.language = "de" if multilingual else "en"
        self.source = read_decoder(folder, self.language)
        self.tokenizer = train_tokenizer(texts, kind="bpe", pieces_of=folder)
        network = SpeechTextConfig(d_model=32, subsampling=2, dropout=0.0, **self.source.network)
        self.ours = SpeechTextModel(
            network,
            vocab_size=self.tokenizer.vocab_size,
            n_mels=20,
            heads=("decoder",),
            tags=("asr", "asr:en", "asr:xx"),
            encoder=read_pretrained(folder).encoder,
        ).eval()
        self.found = take_decoder(
            self.ours.decoder, self.source, self.tokenizer.pieces, self.language
        )

    def numbers(self, ids: list[int]) -> list[int]:
        """Of Whisper's tokens."""
        known = text_pieces(read_vocabulary(self.folder))
        return [known[self.tokenizer.pieces[one]] for one in ids]

    def logits(self, prompt: list[str], ids: list[int], memory: torch.Tensor) -> torch.Tensor:
        """Of transformers, from the end of the prompt on, for the tokenizer's pieces and the end."""
        vocabulary = read_vocabulary(self.folder)
        tokens = [*(vocabulary[mark] for mark in prompt), *self.numbers(ids)]
        decoder = self.theirs.model.decoder
        vectors = decoder(
            input_ids=torch.tensor([tokens]), encoder_hidden_states=memory
        ).last_hidden_state
        all_logits = self.theirs.proj_out(vectors)[0, len(prompt) - 1 :]
        pieces = range(len(SPECIALS), self.tokenizer.vocab_size)
        columns = [vocabulary["<|endoftext|>"], *self.numbers(list(pieces))]
        return all_logits[:, columns]


@pytest.fixture(scope="module")
def whisper(make_whisper, tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    return Whisper(make_whisper, tmp_path_factory.mktemp("whisper"))


def own_columns(logits: torch.Tensor) -> torch.Tensor:
    return torch.cat([logits[:, EOS : EOS + 1], logits[:, len(SPECIALS) :]], dim=1)


@pytest.mark.parametrize(
    ("tag", "language"), [("asr", "<|de|>"), ("asr:en", "<|en|>"), ("asr:xx", "<|de|>")]
)
@torch.no_grad()
def test_it_equals_transformers(whisper: Whisper, tag: str, language: str) -> None:
    ids = whisper.tokenizer.encode(TEXTS[0])
    memory = torch.randn(1, 30, 32)
    prompt = ["<|startoftranscript|>", language, "<|transcribe|>", "<|notimestamps|>"]
    expected = whisper.logits(prompt, ids, memory)
    mask = torch.ones(1, 30, dtype=torch.bool)
    decoder = whisper.ours.decoder
    found = decoder(torch.tensor([ids]), memory, mask, tag, with_attention=True)
    torch.testing.assert_close(own_columns(found.logits[0]), expected, atol=1e-4, rtol=1e-4)
    assert found.log_attention is not None
    assert found.log_attention.shape == (1, len(ids) + 1, 30)
    # step by step as at once
    cache = decoder.start(memory, mask)
    steps = [decoder.step(None, cache, tag)]
    steps += [decoder.step(torch.tensor([one]), cache, tag) for one in ids]
    torch.testing.assert_close(torch.cat(steps), found.logits[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_model_of_english_alone_has_a_prompt_of_two(make_whisper, tmp_path: Path) -> None:
    whisper = Whisper(make_whisper, tmp_path, multilingual=False)
    assert whisper.source.languages == ["en"]
    ids = whisper.tokenizer.encode(TEXTS[1])
    memory = torch.randn(1, 30, 32)
    expected = whisper.logits(["<|startoftranscript|>", "<|notimestamps|>"], ids, memory)
    mask = torch.ones(1, 30, dtype=torch.bool)
    found = whisper.ours.decoder(torch.tensor([ids]), memory, mask, "asr").logits[0]
    torch.testing.assert_close(own_columns(found), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="pretrained_decoder is de"):
        read_decoder(tmp_path, "de")


def test_without_word_of_it_the_number_of_tokens_says_how_many_languages(
    whisper: Whisper, tmp_path: Path
) -> None:
    for path in whisper.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "generation_config.json").unlink()
    for tokens, multilingual in ((51_864, False), (51_865, True), (None, False), ("many", False)):
        change_config(tmp_path, vocab_size=tokens)
        assert read_decoder(tmp_path, None).multilingual is multilingual, tokens


@torch.no_grad()
def test_it_tells_the_language_as_whisper_does(whisper: Whisper) -> None:
    memory = torch.randn(3, 30, 32)
    vocabulary = read_vocabulary(whisper.folder)
    start = torch.full((3, 1), vocabulary["<|startoftranscript|>"])
    vectors = whisper.theirs.model.decoder(input_ids=start, encoder_hidden_states=memory)
    all_logits = whisper.theirs.proj_out(vectors.last_hidden_state)[:, 0]
    expected = all_logits[:, [vocabulary["<|en|>"], vocabulary["<|de|>"]]]
    mask = torch.ones(3, 30, dtype=torch.bool)
    found = whisper.ours.decoder.language_logits(memory, mask)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_beam_search_scores_texts_as_they_are_at_once(whisper: Whisper) -> None:
    features, lengths = torch.randn(2, 40, 20), torch.tensor([40, 26])
    encoding = whisper.ours.encode_speech(features, lengths)
    options = SearchOptions(decoder="attention", beam=3, n_best=3)
    for row, hypotheses in enumerate(search(whisper.ours, encoding, options)):
        frames = int(encoding.enc_lengths[row])
        memory = encoding.encoded[row : row + 1, :frames]
        for one in hypotheses:
            decoded = whisper.ours.decoder(
                torch.tensor([one.tokens], dtype=torch.long).view(1, -1),
                memory,
                torch.ones(1, frames, dtype=torch.bool),
                "asr",
            )
            log_probs = decoded.logits[0].log_softmax(dim=-1)
            ends = [*one.tokens, EOS]
            total = sum(float(log_probs[place, token]) for place, token in enumerate(ends))
            assert one.score == pytest.approx(total, abs=1e-3)


def test_letters_that_it_does_not_have_begin_as_their_bytes(make_whisper, tmp_path: Path) -> None:
    whisper = Whisper(make_whisper, tmp_path, texts=["der ሀ bart"])
    assert whisper.found == (whisper.tokenizer.vocab_size - len(SPECIALS) - 1, ["ሀ"])
    rows = load_file(tmp_path / "model.safetensors")["model.decoder.embed_tokens.weight"]
    vocabulary = read_vocabulary(tmp_path)
    letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("ሀ")
    expected = rows[[vocabulary[letter] for letter in letters[0][0]]].mean(dim=0)
    found = whisper.ours.decoder.embedding.weight[whisper.tokenizer.pieces.index("ሀ")]
    torch.testing.assert_close(found.detach(), expected)


@torch.no_grad()
def test_places_beyond_the_last_are_no_error(whisper: Whisper) -> None:
    ids = whisper.tokenizer.encode(TEXTS[0]) * 5
    assert len(ids) > whisper.source.positions
    mask = torch.ones(1, 5, dtype=torch.bool)
    found = whisper.ours.decoder(torch.tensor([ids]), torch.randn(1, 5, 32), mask, "asr")
    assert found.logits.isfinite().all()


def test_words_are_cut_as_whisper_cuts_them(whisper: Whisper) -> None:
    theirs = tokenizers.Tokenizer.from_file(str(whisper.folder / "tokenizer.json"))
    words = {word for text in TEXTS for word in text.split()} | {"überbart", "thunder"}
    for word in words:
        ids = whisper.tokenizer.encode(word)
        assert whisper.numbers(ids) == theirs.encode(f" {word}").ids, word
        assert whisper.tokenizer.decode(ids) == word


def test_of_a_size_the_pieces_that_were_merged_first_are_kept(whisper: Whisper) -> None:
    size = len(SPECIALS) + len(set("".join(TEXTS))) + 3
    small = train_tokenizer(TEXTS, kind="bpe", pieces_of=whisper.folder, vocab_size=size)
    longer = [piece for piece in whisper.tokenizer.pieces[len(SPECIALS) :] if len(piece) > 1]
    assert [piece for piece in small.pieces[len(SPECIALS) :] if len(piece) > 1] == longer[:3]
    assert small.vocab_size == size
    with pytest.raises(ConfigError, match="vocab_size"):
        train_tokenizer(TEXTS, kind="bpe", pieces_of=whisper.folder, vocab_size=size - 4)


def test_a_tokenizer_is_written_and_read(whisper: Whisper, tmp_path: Path) -> None:
    whisper.tokenizer.save(tmp_path / "tokenizer.json")
    read = Tokenizer.load(tmp_path / "tokenizer.json")
    assert read.pieces == whisper.tokenizer.pieces
    assert read.encode(TEXTS[2]) == whisper.tokenizer.encode(TEXTS[2])
    assert read.align_pieces == [*SPECIALS, *sorted(set("".join(TEXTS)) - {" "})]


def test_vocabularies_in_two_files_are_read(whisper: Whisper, tmp_path: Path) -> None:
    content = json.loads((whisper.folder / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert read_vocabulary(tmp_path) == read_vocabulary(whisper.folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "JSON|vocabulary"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"model": {}}'), "vocabulary"),
        (
            lambda folder: (folder / "tokenizer.json").write_text(
                '{"model": {"vocab": {"a": "b"}}}'
            ),
            "vocabulary",
        ),
        (lambda folder: change_config(folder, decoder_layers="two"), "no decoder of Whisper"),
        (lambda folder: change_config(folder, model_type="bart"), "no decoder of Whisper"),
        (lambda folder: change_config(folder, decoder_ffn_dim=True), "no decoder of Whisper"),
        (lambda folder: change_config(folder, decoder_layers=3), "do not fit"),
        (lambda folder: change_weights(folder, "model.decoder.layers.1.fc1.weight"), "fc1"),
        (
            lambda folder: change_weights(folder, "model.decoder.embed_tokens.weight"),
            "embed_tokens",
        ),
    ],
)
def test_what_is_damaged_is_refused(whisper: Whisper, tmp_path: Path, damage, message: str) -> None:
    for path in whisper.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        source: WhisperDecoder = read_decoder(tmp_path, "de")
        model = SpeechTextModel(
            SpeechTextConfig(d_model=32, subsampling=2, **source.network),
            vocab_size=whisper.tokenizer.vocab_size,
            n_mels=20,
            heads=("decoder",),
        )
        take_decoder(model.decoder, source, whisper.tokenizer.pieces, "de")


def change_config(folder: Path, **changes: object) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))


def change_weights(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors")


def test_a_search_is_by_the_heads_that_a_model_has() -> None:
    asked = SearchOptions(beam=4)
    assert asked.by_heads({"ctc", "decoder", "align"}) == replace(asked, decoder="joint")
    assert asked.by_heads({"decoder", "align"}).decoder == "attention"
    assert asked.by_heads({"ctc", "align"}).heads == {"ctc"}
    assert asked.by_heads({"align"}).heads == {
        "ctc",
        "decoder",
    }  # which a bundle is then said to lack
    assert SearchOptions(task="translate").by_heads({"ctc", "decoder"}).decoder == "attention"
    for chosen in (SearchOptions(decoder="joint"), SearchOptions(ctc_weight=0.5)):
        assert chosen.by_heads({"decoder"}).heads == {"ctc", "decoder"}
