"""Utterances made of the words of others: text and sound stay together, voices stay apart."""

import dataclasses
from collections import Counter
from itertools import pairwise

import pytest
import torch
from lhotse import MonoCut, Recording, SupervisionSegment
from torch.nn.utils.rnn import pad_sequence

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch, pad_tokens
from speechmm.data.dataset import SpeechDataset
from speechmm.errors import ConfigError
from speechmm.text.tokenizer import SIL, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.augmentation import AugmentationConfig
from speechmm.training.augmentation.concatenation import ConcatenationConfig
from speechmm.training.augmentation.planning import BatchPlanner, PlannedBatches
from speechmm.training.augmentation.recombination import MAX_PAUSE_FRAMES, RecombinationConfig
from speechmm.training.augmentation.word_bank import WordBank, find_cuts
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


class Bank:
    """Planner, bank and reader at work one after the other, on utterances of one batch."""

    def __init__(self, tokenizer: Tokenizer, batch: Batch, **settings: object) -> None:
        self.words = WordBank()
        config = RecombinationConfig(after_epochs=0, **settings)
        self.planner = BatchPlanner(config, ConcatenationConfig(), self.words, LogMelConfig())
        self.cuts = {name: cut(batch, row) for row, name in enumerate(batch.ids)}
        self.dataset = SpeechDataset(tokenizer, LogMelConfig(n_mels=2))
        rows = zip(batch.ids, batch.features, batch.frames, strict=True)
        known = {name: features[:frames] for name, features, frames in rows}
        self.dataset._cache, self.dataset._cache_left = known, 0
        self.epoch = 0

    def add(self, batch: Batch, occupancy: torch.Tensor, lengths: torch.Tensor) -> None:
        self.words.learn(batch, occupancy, lengths, self.epoch)
        self.epoch += 1
        self.planner.begin_epoch(self.epoch)

    def recombine(self, batch: Batch, seed: int) -> Batch:
        cuts = [self.cuts[name] for name in batch.ids]
        made = self.dataset[self.planner.plan(cuts, self.cuts, epoch=1, index=seed)]
        assert isinstance(made, Batch)
        return made


def cut(batch: Batch, row: int) -> MonoCut:
    """What a manifest says of an utterance whose features are known."""
    name, seconds = batch.ids[row], (batch.frames[row] - 1) / 100
    recording = Recording(name, [], 16_000, round(seconds * 16_000), seconds)
    text = SupervisionSegment(
        name, name, 0.0, seconds, text=batch.texts[row], speaker=batch.speakers[row]
    )
    return MonoCut(name, 0.0, seconds, 0, supervisions=[text], recording=recording)


def full_bank(tokenizer: Tokenizer, **settings: object) -> tuple[Bank, Batch]:
    batch, occupancy = spoken(tokenizer)
    bank = Bank(tokenizer, batch, share=1.0, **settings)
    bank.add(batch, occupancy, batch.feature_lengths)
    return bank, batch


def test_edges_are_those_of_the_alignment(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    found = find_cuts(batch, occupancy, batch.feature_lengths)
    aligned = tokenizer.encode_aligned(TEXTS[1])
    first, second = (heard_length(aligned.word_indices, word) for word in (0, 2))
    end = 2 * PAUSE_FRAMES + first + second
    frames, begin, over, tokens, *cuts = found[1].tolist()
    assert (frames, begin, over) == (end + PAUSE_FRAMES, PAUSE_FRAMES, end)
    assert tokens == len(aligned.ids)
    assert [c for c in cuts if c >= 0] == [PAUSE_FRAMES + first + PAUSE_FRAMES // 2]


def test_padding_moves_no_edge(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    padded = dataclasses.replace(
        batch,
        features=torch.nn.functional.pad(batch.features, (0, 0, 0, 37), value=9.0),
        align_tokens=torch.nn.functional.pad(batch.align_tokens, (0, 5)),
    )
    more = torch.nn.functional.pad(occupancy, (0, 5))
    more = torch.nn.functional.pad(more, (0, 0, 0, 37), value=0.3)
    found = find_cuts(batch, occupancy, batch.feature_lengths)
    assert torch.equal(find_cuts(padded, more, batch.feature_lengths)[:, :-5], found)


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
        made = bank.recombine(batch, seed)
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
    made = bank.recombine(batch, 0)
    assert made.ids == batch.ids
    assert made.recombined == [True, True, False, True]


def test_lengths_stay_about_the_same(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    sums = [int(bank.recombine(batch, seed).feature_lengths.sum()) for seed in range(50)]
    assert sum(sums) / len(sums) == pytest.approx(int(batch.feature_lengths.sum()), rel=0.15)


def test_edges_of_utterances_become_short_pauses_inside(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    for seed in range(30):
        made = bank.recombine(batch, seed)
        _, pauses = heard(made.features[3, : made.feature_lengths[3], 0])
        assert max(pauses[1:-1], default=0) <= max(2 * MAX_PAUSE_FRAMES, PAUSE_FRAMES)


def test_nothing_happens_without_a_share_or_before_any_alignment(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    for share, learns in ((0.0, True), (1.0, False)):
        bank = Bank(tokenizer, batch, share=share)
        if learns:
            bank.add(batch, occupancy, batch.feature_lengths)
        made = bank.recombine(batch, 0)
        assert made.recombined == [False] * 4
        assert torch.equal(made.features, batch.features)
        assert torch.equal(made.align_tokens, batch.align_tokens)


def test_an_epoch_uses_what_was_known_when_it_began(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    bank = Bank(tokenizer, batch, share=1.0)
    bank.words.learn(batch, occupancy, batch.feature_lengths, 0)
    bank.planner.begin_epoch(0)
    assert not any(bank.recombine(batch, 0).recombined)
    saved = bank.words.state()
    bank.planner.begin_epoch(1)
    assert any(bank.recombine(batch, 0).recombined)
    resumed = Bank(tokenizer, batch, share=1.0)
    resumed.words.load_state(saved)
    resumed.planner.begin_epoch(0)
    assert not any(resumed.recombine(batch, 0).recombined)
    resumed.planner.begin_epoch(1)
    for seed in range(5):
        assert resumed.recombine(batch, seed).texts == bank.recombine(batch, seed).texts


def test_a_plan_depends_on_its_place_alone(tokenizer: Tokenizer) -> None:
    bank, _ = full_bank(tokenizer)
    cuts = list(bank.cuts.values())
    sampler = CutSampler([cuts, cuts[::-1], cuts])
    for rank in 0, 1:
        plans = list(PlannedBatches(sampler, bank.planner, bank.cuts, rank))
        again = list(PlannedBatches(sampler, bank.planner, bank.cuts, rank))
        assert plans == again
        assert plans[0] != plans[2]
    assert plans[0] != next(iter(PlannedBatches(sampler, bank.planner, bank.cuts, 0)))


class CutSampler(list):
    def set_epoch(self, epoch: int) -> None: ...


def test_made_up_utterances_teach_nothing_new(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer)
    made = bank.recombine(batch, 1)
    wrong = torch.zeros(len(made), made.features.shape[1], made.align_tokens.shape[1])
    wrong[:, :, 0] = 1.0
    before = bank.recombine(batch, 2)
    bank.add(made, wrong, made.feature_lengths)  # of the four only "six", which nobody can use
    after = bank.recombine(batch, 2)
    assert before.texts == after.texts
    assert torch.equal(before.features, after.features)


def test_an_alignment_at_another_tempo_is_brought_back(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    slow = Bank(tokenizer, batch, share=1.0)
    slow.add(batch, occupancy.repeat_interleave(2, dim=1), 2 * batch.feature_lengths)
    usual, _ = full_bank(tokenizer)
    for seed in range(10):
        one = slow.recombine(batch, seed)
        other = usual.recombine(batch, seed)
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
    bank = Bank(tokenizer, batch, share=1.0, run_words=1)
    bank.add(batch, unsure, batch.feature_lengths)
    texts = " ".join(
        f"| {text} |" for seed in range(60) for text in bank.recombine(batch, seed).texts
    ).split()
    assert "one" in texts
    assert all(after == "two," for word, after in pairwise(texts) if word == "one")
    assert any(after != "three" for word, after in pairwise(texts) if word == "two,")


def test_nothing_is_cut_where_the_sound_is_loud(tokenizer: Tokenizer) -> None:
    batch, occupancy = spoken(tokenizer)
    loud = dataclasses.replace(batch, features=-batch.features)  # now pauses are the loudest
    bank = Bank(tokenizer, loud, share=1.0, run_words=1)
    bank.add(loud, occupancy, batch.feature_lengths)
    made = bank.recombine(loud, 0)
    for text in made.texts:
        assert {piece for piece in TEXTS if piece.replace("- ", "") in text}


def test_runs_have_as_many_words_as_they_may(tokenizer: Tokenizer) -> None:
    bank, batch = full_bank(tokenizer, run_words=1)
    following = {pair for text in TEXTS for pair in pairwise(text.split())}
    pairs = [
        pair
        for seed in range(60)
        for text in bank.recombine(batch, seed).texts
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
