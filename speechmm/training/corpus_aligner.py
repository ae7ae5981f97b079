"""Learns to align from recordings and their texts alone, in minutes: no recogniser, no other aligner.

First a small network learns the units of the texts from scratch, by the sum over all alignments. Then
its alignment is cut into the first frames of units, those between and the last ones, a new
network learns these frame by frame and aligns anew, and so on. Nothing here knows Lightning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechmm.data.skips import SkipReport
from speechmm.errors import ManifestError, SpeechmmError
from speechmm.inference.alignment.aligner_folder import (
    UNIVERSAL,
    load_corpus_aligner,
    pronouncing,
)
from speechmm.inference.alignment.corpus_aligner import CorpusAligner, centred
from speechmm.inference.alignment.placed_text import likeliest_pronunciations
from speechmm.inference.alignment.state_graph import SILENCE_COLUMN, state_columns
from speechmm.inference.alignment.token_path import silence_mask
from speechmm.inference.alignment.viterbi import Floats, monotonic_path
from speechmm.inference.engine.sources import Source
from speechmm.models.forward_sum import (
    beta_binomial_log_prior,
    forward_sum_loss,
    gather_tokens,
    label_scores,
    silence_log_prior,
)
from speechmm.models.kernels.loading import load_in_background
from speechmm.models.kernels.threads import for_each_utterance
from speechmm.models.local_network import LocalNetwork
from speechmm.options import EACH
from speechmm.text.align_units import AlignUnits
from speechmm.text.lexicon import Lexicon
from speechmm.text.phonemes import known_voice
from speechmm.training.aligner_settings import DEFAULTS, LearningSettings
from speechmm.training.aligner_utterances import (
    Utterance,
    batches_of_like_length,
    cut_long,
    padded_tokens,
    read_utterances,
    units_of,
    with_texts,
)
from speechmm.training.augmentation.noise_reverb import add_noise_reverb

Report = Callable[[str], None]
_FEWEST_FRAMES = 500
IGNORED = -100
"""The target of padding."""
_MOST_SCORES = 200_000_000  # held at once while utterances are aligned: 0.8 GB


def learn_aligner(
    sources: Sequence[Source],
    *,
    language: str | None = None,
    lexicon: Lexicon | None = None,
    start: CorpusAligner | None = None,
    settings: LearningSettings = DEFAULTS,
    skipped: SkipReport | None = None,
    report: Report = lambda _: None,
) -> CorpusAligner:
    """Learns to align the utterances of a corpus.

    Args:
        sources: Utterances with their texts; recordings above a minute are learned from in parts, as
            ``start`` or the universal aligner finds them.
        language: The espeak-ng voice that pronounces the texts, for phones; ``EACH`` for the language of
            each utterance; None for letters.
        lexicon: Pronounces the words it lists; the others are pronounced by the language, or not used.
        start: Whose alignments are learned first, and whose units and features are kept; None learns from
            scratch.
        settings: How to learn.
        skipped: Where utterances that cannot be used are noted; without it, the first is raised.
        report: Told what is being done, in a line.

    Raises:
        ManifestError: No utterance can be used.
    """
    skipped = SkipReport(strict=True) if skipped is None else skipped
    load_in_background("state_paths")
    if start is not None:
        language, settings = start.units.language, replace(settings, features=start.features)
    if language not in (None, EACH):
        language = known_voice(language)
    rate, shift = settings.features.sample_rate, settings.features.frame_shift
    texts = with_texts(sources, language, skipped)
    usable = list(
        cut_long(texts, lambda: start or _universal(language, lexicon), skipped, rate, report)
    )
    units = start.units if start else units_of(usable, language, lexicon, settings.rare)
    if sum(one.duration(rate) for one in usable) > settings.most_frames * shift:
        order = np.random.default_rng(settings.seed).permutation(len(usable))
        usable = [usable[place] for place in order]
    named = {one.name for one in sources}

    def note(name: str, error: SpeechmmError) -> None:
        if name in named:
            skipped.add(name, error)
        else:  # a part of a long recording, which is aligned all the same
            report(f"left out of learning: {error}")

    utterances = list(
        read_utterances(usable, units, settings.features, note, most_frames=settings.most_frames)
    )
    if not utterances:
        raise ManifestError(
            f"none of {len(sources)} utterances can be learned from; expected recordings with texts. "
            + (skipped.items[0][1] if skipped.items else "")
        )
    seconds = sum(len(one.log_mel) for one in utterances) * settings.features.frame_shift
    report(f"learning {len(units.units)} units from {len(utterances)} utterances, {seconds:.0f} s")
    torch_state = torch.random.get_rng_state()
    try:
        learner = _Learner(utterances, units, settings, report)
        networks = learner.learn(start)
    finally:
        torch.random.set_rng_state(torch_state)
    return CorpusAligner(units, settings.features, tuple(networks))


def _universal(language: str | None, lexicon: Lexicon | None) -> CorpusAligner:
    """The aligner that ships, which finds the parts of long recordings."""
    return pronouncing(load_corpus_aligner(UNIVERSAL), language, lexicon)


class _Learner:
    """The utterances of a corpus, and the rounds of learning."""

    def __init__(
        self,
        utterances: list[Utterance],
        alphabet: AlignUnits,
        settings: LearningSettings,
        report: Report,
    ) -> None:
        self.utterances = utterances
        self.alphabet = alphabet
        self.units = len(alphabet.units)
        self.settings = settings
        self.report = report
        self.random = torch.Generator().manual_seed(settings.seed)
        frames = sum(len(one.log_mel) for one in utterances)
        self.epoch_frames = min(frames, settings.frames_an_epoch)
        self.batch_frames = min(settings.batch_frames, max(_FEWEST_FRAMES, self.epoch_frames // 8))

    def learn(self, start: CorpusAligner | None = None) -> list[LocalNetwork]:
        """The networks at the end of all rounds."""
        settings = self.settings
        if start is None:
            self.flat_start()
        else:
            self.realign(start.networks)
        for number in range(settings.rounds):
            network = self.frame_round(settings.round_epochs, f"round {number + 1}")
            self.realign([network])
        return [
            self.frame_round(settings.member_epochs, f"member {number + 1}")
            for number in range(settings.members)
        ]

    def flat_start(self) -> None:
        """Units from scratch by the forward-sum loss, then the likeliest alignment of each utterance.

        Sources: Badlani et al. 2022, section 3; docs/decisions/0008 for the prior.
        """
        settings = self.settings
        network = self._network(1 + self.units)
        marginal = torch.full((1 + self.units,), 1.0 / (1 + self.units))
        epochs = self._epochs(settings.start_epochs)
        leading = epochs * settings.leading_epochs / settings.start_epochs
        for epoch, features, lengths, batch in self._steps(network, epochs, "flat start"):
            lead = max(0.0, 1.0 - epoch / leading) if leading else 0.0
            tokens, sizes = padded_tokens(batch)
            silent = tokens == SILENCE_COLUMN
            prior_weight = settings.start_prior + lead * (1.0 - settings.start_prior)
            log_probs = network(self._masked(features), lengths)
            scores, found = label_scores(log_probs, lengths, prior_weight)
            marginal.lerp_(found, 0.02)
            log_prior = None
            if lead:
                log_prior = lead * (
                    silence_log_prior(features, lengths, silent)
                    + beta_binomial_log_prior(lengths, sizes, features.shape[1], tokens.shape[1])
                )
            loss, _ = forward_sum_loss(
                gather_tokens(scores, tokens), lengths, sizes, silent, log_prior=log_prior
            )
            loss.backward()  # type: ignore[no-untyped-call]
        prior = marginal.clamp(min=1e-6).log()
        for one in self.utterances:
            path = monotonic_path(
                _scores(network, one, prior),
                skippable=silence_mask(one.text.aligned),
                columns=one.token_classes,
            )
            one.states = one.text.graph.split(path)

    def frame_round(self, epochs: int, name: str) -> LocalNetwork:
        """A new network that learns the alignments there are, frame by frame."""
        network = self._network(state_columns(self.units))
        for _, features, lengths, batch in self._steps(network, self._epochs(epochs), name):
            targets = torch.full(features.shape[:2], IGNORED)
            for row, one in enumerate(batch):
                targets[row, : len(one.log_mel)] = torch.from_numpy(one.columns)
            log_probs = network(self._masked(features), lengths)
            loss = F.nll_loss(log_probs.transpose(1, 2), targets, ignore_index=IGNORED)
            mean = -log_probs.mean(dim=-1)[targets != IGNORED].mean()
            smoothing = self.settings.smoothing
            ((1.0 - smoothing) * loss + smoothing * mean).backward()
        counts = torch.full((state_columns(self.units),), 5.0)
        for one in self.utterances:
            counts += torch.from_numpy(np.bincount(one.columns, minlength=len(counts)))
        network.log_prior.copy_((counts / counts.sum()).log())
        return network.eval()

    def realign(self, networks: Sequence[LocalNetwork]) -> None:
        """The likeliest alignment of each utterance, by the networks."""
        frames = max(1, _MOST_SCORES // state_columns(self.units))  # whose scores are held together
        ends = np.cumsum([len(one.log_mel) for one in self.utterances])
        for _, rows in groupby(range(len(ends)), key=lambda row: int(ends[row] - 1) // frames):
            self._realign_some([self.utterances[row] for row in rows], networks)

    def _realign_some(
        self, utterances: Sequence[Utterance], networks: Sequence[LocalNetwork]
    ) -> None:
        scores = [
            np.mean([_scores(one, utterance, one.log_prior) for one in networks], axis=0)
            for utterance in utterances
        ]

        def work(row: int) -> None:
            one = utterances[row]
            one.text = likeliest_pronunciations(self.alphabet, one.text, scores[row])
            one.states = one.text.graph.best_path(scores[row])

        cells = [len(one.log_mel) * len(one.text.graph.columns) for one in utterances]
        for_each_utterance(work, cells, worth=500_000)

    def _network(self, classes: int) -> LocalNetwork:
        torch.manual_seed(int(torch.randint(1 << 31, (), generator=self.random)))
        settings = self.settings
        network = LocalNetwork(
            settings.features.n_mels, classes, width=settings.width, kernel=settings.kernel
        )
        return network.train()

    def _epochs(self, epochs: int) -> int:
        steps = max(1, self.epoch_frames // self.batch_frames)
        return max(epochs, math.ceil(self.settings.steps_at_least / steps))

    def _steps(
        self, network: LocalNetwork, epochs: int, name: str
    ) -> Iterator[tuple[int, Tensor, Tensor, list[Utterance]]]:
        """The epoch, features, lengths and utterances of every step; each optimises after its loss."""
        settings = self.settings
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=0.02
        )
        plan = [(epoch, batch) for epoch in range(epochs) for batch in self._batches()]
        warm = min(40, len(plan) // 4 + 1)
        for step, (epoch, batch) in enumerate(plan):
            falling = 0.5 * (1.0 + math.cos(math.pi * step / len(plan)))
            optimizer.param_groups[0]["lr"] = (
                settings.learning_rate * min(1.0, (step + 1) / warm) * falling
            )
            optimizer.zero_grad()
            lengths = torch.tensor([len(one.log_mel) for one in batch])
            log_mel = torch.nn.utils.rnn.pad_sequence(
                [one.log_mel for one in batch], batch_first=True
            )
            log_mel = add_noise_reverb(
                log_mel,
                lengths,
                settings.noise_reverb,
                self.random,
                frame_shift=settings.features.frame_shift,
            )
            yield epoch, centred(log_mel, lengths), lengths, batch
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        self.report(f"{name}: {len(plan)} steps")

    def _batches(self) -> list[list[Utterance]]:
        """Some of the utterances, those of like length together, in another order every time."""
        settings = self.settings
        order = torch.randperm(len(self.utterances), generator=self.random).tolist()
        chosen, frames = [], 0
        for place in order:
            if frames >= settings.frames_an_epoch:
                break
            chosen.append(self.utterances[place])
            frames += len(chosen[-1].log_mel)
        return batches_of_like_length(chosen, self.batch_frames, self.random)

    def _masked(self, features: Tensor) -> Tensor:
        """The features with some bands of each utterance hidden."""
        batch, _, bands = features.shape
        width = torch.randint(self.settings.mask_bands, (batch, 1), generator=self.random)
        first = (torch.rand(batch, 1, generator=self.random) * (bands - width)).long()
        band = torch.arange(bands)
        hidden = (band >= first) & (band < first + width)
        return features.masked_fill(hidden[:, None], 0.0)


@torch.inference_mode()
def _scores(network: LocalNetwork, one: Utterance, log_prior: Tensor) -> Floats:
    """Log-probabilities of the classes of each frame with the prior divided out."""
    was_training = network.training
    network.eval()
    lengths = torch.tensor([len(one.log_mel)])
    log_probs = network(centred(one.log_mel[None], lengths), lengths)[0]
    network.train(was_training)
    scores: Floats = (log_probs - log_prior).numpy()
    return scores
