"""Utterances made of the words of others: text and sound stay together, voices stay apart."""

import dataclasses
from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from speechmm.data.batch import Batch, pad_tokens
from speechmm.errors import ConfigError
from speechmm.text.tokenizer import SIL, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.augmentation import AugmentationConfig
from speechmm.training.augmentation.recombination import (
    MAX_PAUSE_FRAMES,
    RecombinationConfig,
    WordBank,
    word_edges,
)
from speechmm.training.module import JointModule
from speechmm.training.tasks import Align, TasksConfig

TEXTS = ["one two, three", "four-teen - five!", "six", "seven eight nine ten"]
VOICES = ["p", "p", "q", "p"]
WORD_FRAMES, PAUSE_FRAMES = 40, 24
SILENT = 0.0


@pytest.fixture(scope="module", params=["char", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    size = None if request.param == "char" else 40
    return train_tokenizer(TEXTS * 3, kind=request.param, vocab_size=size)


def sound(voice: str, word: str) -> float:
    """What every frame of this word holds: 1 to 200, its own by voice and word."""
    words = " ".join(TEXTS).split()
    return 1.0 + words.index(word) + 100 * VOICES.index(voice)


def spoken(tokenizer: Tokenizer) -> tuple[Batch, torch.Tensor]:
    """Pause, word, pause, ..., each frame telling its word, and the alignment that says so."""
    rows, occupancies = [], []
    for text, voice in zip(TEXTS, VOICES, strict=True):
        aligned = tokenizer.encode_aligned(text)
        inside = Counter(aligned.word_indices)
        values, columns = [], []
        for column, word in enumerate(aligned.word_indices):
            length = PAUSE_FRAMES if word < 0 else WORD_FRAMES // inside[word]
            values += [SILENT if word < 0 else sound(voice, aligned.words[word])] * length
            columns += [column] * length
        rows.append(torch.tensor(values)[:, None].expand(-1, 2))
        occupancies.append(torch.nn.functional.one_hot(torch.tensor(columns)).float())
    tokens, token_lengths = pad_tokens([tokenizer.encode(text) for text in TEXTS])
    aligned_tokens, align_lengths = pad_tokens([tokenizer.encode_aligned(t).ids for t in TEXTS])
    frames, columns = max(map(len, rows)), aligned_tokens.shape[1]
    occupancy = torch.zeros(len(rows), frames, columns)
    for row, one in enumerate(occupancies):
        occupancy[row, : one.shape[0], : one.shape[1]] = one
    batch = Batch(
        ids=[f"u{row}" for row in range(len(rows))],
        features=pad_sequence(rows, batch_first=True),
        feature_lengths=torch.tensor([len(row) for row in rows]),
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=aligned_tokens,
        align_lengths=align_lengths,
        texts=list(TEXTS),
        seconds=1.0,
        references=[None] * len(rows),
        speakers=list(VOICES),
        speeds=[1.0] * len(rows),
        recombined=[False] * len(rows),
    )
    return batch, occupancy


def heard(values: torch.Tensor) -> tuple[list[float], list[int]]:
    """The sounds of an utterance in order, one for each stretch, and how long the pauses were."""
    stretches: list[tuple[float, int]] = []
    for value in values.tolist():
        if stretches and stretches[-1][0] == value:
            stretches[-1] = (value, stretches[-1][1] + 1)
        else:
            stretches.append((value, 1))
    pauses = [length for value, length in stretches if value == SILENT]
    return [value for value, _ in stretches if value != SILENT], pauses


def full_bank(tokenizer: Tokenizer, **settings: object) -> tuple[WordBank, Batch]:
    batch, occupancy = spoken(tokenizer)
    bank = WordBank(tokenizer, RecombinationConfig(share=1.0, **settings))
    bank.add(batch, occupancy, batch.feature_lengths)
    return bank, batch


def test_edges_are_those_of_the_alignment(tokenizer: Tokenizer) -> None:
    _, occupancy = spoken(tokenizer)
    aligned = tokenizer.encode_aligned(TEXTS[1])
    frames = int(spoken(tokenizer)[0].feature_lengths[1])
    begin, end, variance = word_edges(
        occupancy[1, :frames, : len(aligned.ids)], aligned.word_indices
    )
    first = heard_length(aligned.word_indices, 0)
    second = heard_length(aligned.word_indices, 2)
    assert begin == [PAUSE_FRAMES, 2 * PAUSE_FRAMES + first]
    assert end == [PAUSE_FRAMES + first, 2 * PAUSE_FRAMES + first + second]
    assert variance == [0]


def spoken_by_p() -> set[str]:
    """The words of the voice with several utterances."""
    texts = [text for text, voice in zip(TEXTS, VOICES, strict=True) if voice == "p"]
    return {word for text in texts for word in text.split()} - {"-"}  # which has no sound


def heard_length(word_indices: list[int], word: int) -> int:
    count = word_indices.count(word)
    return count * (WORD_FRAMES // count)


def test_every_frame_belongs_to_the_word_its_text_says(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    orders = set()
    for seed in range(30):
        made = bank.recombine(batch, torch.Generator().manual_seed(seed))
        assert made.speakers == batch.speakers
        for row, text in enumerate(made.texts):
            length = int(made.feature_lengths[row])
            assert not made.features[row, length:].any()
            assert made.tokens[row, : made.token_lengths[row]].tolist() == tokenizer.encode(text)
            aligned = made.align_tokens[row, : made.align_lengths[row]].tolist()
            assert aligned == tokenizer.encode_aligned(text).ids
            if not made.recombined[row]:
                continue
            sounds, _ = heard(made.features[row, :length, 0])
            assert sounds == [sound("p", word) for word in text.split()]
            orders.add(text)
    assert len(orders) > 60  # 90 drawn
    assert {word for text in orders for word in text.split()} == spoken_by_p()


def test_a_speaker_with_one_utterance_keeps_it(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    made = bank.recombine(batch, torch.Generator().manual_seed(0))
    assert made.ids == batch.ids
    assert made.recombined == [True, True, False, True]


def test_lengths_stay_about_the_same(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    sums = [
        int(bank.recombine(batch, torch.Generator().manual_seed(seed)).feature_lengths.sum())
        for seed in range(50)
    ]
    assert sum(sums) / len(sums) == pytest.approx(int(batch.feature_lengths.sum()), rel=0.15)


def test_edges_of_utterances_become_short_pauses_inside(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    for seed in range(30):
        made = bank.recombine(batch, torch.Generator().manual_seed(seed))
        _, pauses = heard(made.features[3, : made.feature_lengths[3], 0])
        assert max(pauses[1:-1], default=0) <= max(2 * MAX_PAUSE_FRAMES, PAUSE_FRAMES)


def test_nothing_happens_without_a_share_or_before_any_alignment(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    silent = WordBank(tokenizer, RecombinationConfig())
    silent.add(batch, occupancy, batch.feature_lengths)
    assert silent.recombine(batch) is batch
    assert WordBank(tokenizer, RecombinationConfig(share=1.0)).recombine(batch) is batch


def test_made_up_utterances_teach_nothing_new(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    made = bank.recombine(batch, torch.Generator().manual_seed(1))
    wrong = torch.zeros(len(made), made.features.shape[1], made.align_tokens.shape[1])
    wrong[:, :, 0] = 1.0
    before = bank.recombine(batch, torch.Generator().manual_seed(2))
    bank.add(made, wrong, made.feature_lengths)  # of the four only "six", which nobody can use
    after = bank.recombine(batch, torch.Generator().manual_seed(2))
    assert before.texts == after.texts
    assert torch.equal(before.features, after.features)


def test_memory_is_bounded(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    first = 4 * 2 * int(batch.feature_lengths[0])
    bank = WordBank(tokenizer, RecombinationConfig(share=1.0, keep_gb=(first + 1) / 1e9))
    bank.add(batch, occupancy, batch.feature_lengths)
    assert bank.recombine(batch) is batch  # one utterance of each voice fits, or none


def test_an_alignment_at_another_tempo_is_brought_back(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    slow = WordBank(tokenizer, RecombinationConfig(share=1.0))
    slow.add(batch, occupancy.repeat_interleave(2, dim=1), 2 * batch.feature_lengths)
    usual, _ = full_bank(tokenizer)
    for seed in range(10):
        one = slow.recombine(batch, torch.Generator().manual_seed(seed))
        other = usual.recombine(batch, torch.Generator().manual_seed(seed))
        assert one.texts == other.texts
        assert torch.equal(one.features, other.features)


def test_nothing_is_cut_where_the_alignment_is_unsure(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    aligned = tokenizer.encode_aligned(TEXTS[0])
    pause = aligned.word_indices.index(1) - 1  # between "one" and "two"
    unsure = occupancy.clone()
    where = occupancy[0, :, pause].nonzero().flatten()
    unsure[0, where, pause] = 0.5
    unsure[0, where, pause + 1] = 0.5
    bank = WordBank(tokenizer, RecombinationConfig(share=1.0, run_words=1))
    bank.add(batch, unsure, batch.feature_lengths)
    texts = " ".join(
        f"| {text} |"
        for seed in range(60)
        for text in bank.recombine(batch, torch.Generator().manual_seed(seed)).texts
    ).split()
    assert "one" in texts
    assert all(after == "two," for word, after in pairwise(texts) if word == "one")
    assert any(after != "three" for word, after in pairwise(texts) if word == "two,")


def test_nothing_is_cut_where_the_sound_is_loud(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    loud = dataclasses.replace(batch, features=-batch.features)  # now pauses are the loudest
    bank = WordBank(tokenizer, RecombinationConfig(share=1.0, run_words=1))
    bank.add(loud, occupancy, batch.feature_lengths)
    made = bank.recombine(loud, torch.Generator().manual_seed(0))
    for text in made.texts:
        assert {piece for piece in TEXTS if piece.replace("- ", "") in text}


def test_runs_have_as_many_words_as_they_may(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer, run_words=1)
    following = {pair for text in TEXTS for pair in pairwise(text.split())}
    pairs = [
        pair
        for seed in range(60)
        for text in bank.recombine(batch, torch.Generator().manual_seed(seed)).texts
        if text not in TEXTS
        for pair in pairwise(text.split())
    ]
    kept = sum(pair in following for pair in pairs) / len(pairs)
    assert kept < 0.2  # one in nine by chance


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"run_words": 0}, {"after_epochs": -1}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="recombination"):
        RecombinationConfig(**settings)


def test_words_cannot_be_found_without_the_task_align() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.align\.weight"):
        JointModule(
            tasks=TasksConfig(align=Align(weight=0.0)),
            augmentation=AugmentationConfig(recombination=RecombinationConfig(share=0.5)),
        )


def test_silence_is_what_the_tests_think_it_is(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_aligned("one two").ids.count(SIL) == 3
