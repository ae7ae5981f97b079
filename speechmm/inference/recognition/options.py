"""Defines how recognition searches: decoders, beam, external scores; imports no PyTorch.

A new decoder is named here, with what it reads of the model, and is called in
:mod:`speechmm.inference.recognition.search`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechmm.errors import ConfigError
from speechmm.text.languages import TASKS, language_code

DECODERS = ("ctc", "attention", "joint")
"""Greedy CTC, the attention decoder alone, or the decoder with CTC prefix scores."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search."""

    decoder: str | None = None
    """Which scores count: ctc (greedy, fastest), attention, or joint; None means joint, or what the model
    has of the two, and attention for translations."""
    beam: int = 1
    """Hypotheses kept per utterance."""
    ctc_weight: float = 0.3
    """Share of the CTC prefix score in the joint score, 0 to 1; at 1 the decoder has no part."""
    length_bonus: float = 0.0
    """Added per token (natural log), against too short results."""
    n_best: int = 1
    """Results per utterance, best first."""
    align_weight: float = 0.0
    """Weight of the log-likelihood of the audio given the text, by the alignment head (nats), with which
    all hypotheses of the beam are ranked once more; 0 leaves them as the search has them."""
    speech_gate: bool = True
    """Search only where anybody speaks, by what the heads of the model hear; without it, all audio."""
    task: str = TASKS[0]
    """What is written: what is said (asr), or the same in another language (translate)."""
    language: str | None = None
    """That is spoken, where it is known; None lets the decoder tell, of a model of several."""
    target_language: str | None = None
    """To translate into; None where the model knows one only."""

    def by_heads(self, heads: Collection[str]) -> SearchOptions:
        """The same search by those heads that a model has, where nobody has chosen.

        Args:
            heads: Of the model. One with a decoder and no CTC is searched by that, as Whisper's is; one
                with CTC and no decoder by CTC prefixes.
        """
        if self.decoder is not None:
            return self
        chosen = replace(self, decoder=self.searched_by)
        if self.ctc_weight != SearchOptions.ctc_weight or chosen.heads.issubset(heads):
            return chosen
        if "decoder" in heads:
            return replace(self, decoder="attention")
        return (
            replace(chosen, ctc_weight=1.0) if "ctc" in heads and self.language is None else chosen
        )

    @property
    def searched_by(self) -> str:
        """The decoder: the one chosen, or what searches a model that has all heads."""
        return self.decoder or ("attention" if self.task == "translate" else "joint")

    @property
    def heads(self) -> frozenset[str]:
        """Heads of the model that the search reads, and a bundle must have."""
        ctc = ["ctc"] if self.searched_by == "ctc" or self.uses_ctc_prefixes else []
        return frozenset([*ctc, "decoder"] if self.uses_decoder else ctc)

    @property
    def uses_decoder(self) -> bool:
        """Whether the attention decoder has any weight."""
        return self.searched_by == "attention" or (
            self.searched_by == "joint" and self.ctc_weight < 1
        )

    @property
    def uses_ctc_prefixes(self) -> bool:
        """Whether a beam search adds CTC prefix scores."""
        return self.searched_by == "joint" and self.ctc_weight > 0

    @property
    def tokens_per_frame(self) -> int:
        """Tokens that a text has at most, for each encoder frame; a translation may be longer."""
        return 1 if self.task == "asr" else 2

    @property
    def searched(self) -> SearchOptions:
        """What the search itself is asked for: all of its hypotheses where they are ranked once more."""
        return replace(self, n_best=self.beam, align_weight=0.0) if self.align_weight else self

    def __post_init__(self) -> None:
        self._check_task()
        if self.decoder not in (None, *DECODERS):
            raise ConfigError(
                f"search: decoder is {self.decoder!r}; expected one of {', '.join(DECODERS)}. "
                "Choose one of these."
            )
        if self.beam < 1 or not 1 <= self.n_best <= self.beam:
            raise ConfigError(
                f"search: beam {self.beam}, n_best {self.n_best}; expected 1 <= n_best <= beam. "
                "Raise the beam."
            )
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise ConfigError(
                f"search: ctc_weight is {self.ctc_weight}; expected 0 to 1. Choose such a value."
            )
        if self.decoder == "ctc" and self.beam > 1:
            raise ConfigError(
                f"search: decoder 'ctc' is greedy, but beam is {self.beam}; expected beam 1. "
                "Use decoder 'joint' for a beam search."
            )
        if self.decoder == "ctc" and self.length_bonus:
            raise ConfigError(
                f"search: decoder 'ctc' is greedy, but length_bonus is {self.length_bonus}; expected "
                "0, as it has no effect there. Leave it out, or use another decoder."
            )
        if not 0.0 <= self.align_weight < float("inf") or (self.align_weight and self.beam == 1):
            raise ConfigError(
                f"search: align_weight is {self.align_weight}, beam {self.beam}; expected a weight of 0 or "
                "more, and a beam of 2 or more for its hypotheses to be ranked. Raise the beam."
            )

    def _check_task(self) -> None:
        """Refuses what the task leaves without effect."""
        if self.task not in TASKS:
            raise ConfigError(
                f"search: task is {self.task!r}; expected one of {', '.join(TASKS)}. Choose one of these."
            )
        for name in ("language", "target_language"):
            value: object = getattr(self, name)
            if not (value is None or (isinstance(value, str) and language_code(value))):
                raise ConfigError(
                    f"search: {name} is {value!r}; expected the code of a language, such as en. Correct it."
                )
        if self.task == "translate" and self.align_weight:
            raise ConfigError(
                f"search: align_weight is {self.align_weight} and task translate; expected 0, as no "
                "translation is said in the audio. Leave it out."
            )
        if self.task == "translate" and self.searched_by != "attention":
            raise ConfigError(
                f"search: decoder is {self.decoder!r} and task translate; expected decoder 'attention', "
                "as CTC writes what is said. Leave the decoder out, or choose that."
            )
        if self.task == "translate" and self.language is not None:
            raise ConfigError(
                f"search: language is {self.language!r} and task translate; expected none, as whatever is "
                "spoken is translated. Leave it out, or name the language to write as the target language."
            )
        if self.task == "asr" and self.target_language is not None:
            raise ConfigError(
                f"search: target_language is {self.target_language!r} and task asr; expected none, as "
                "nothing is translated. Leave it out, or choose task translate."
            )
        if self.language is not None and not self.uses_decoder:
            raise ConfigError(
                f"search: language is {self.language!r} and the decoder has no part; expected decoder "
                "'joint' or 'attention', as CTC is told no language. Leave it out, or choose one of these."
            )


@dataclass(frozen=True, kw_only=True)
class FusionOptions:
    """Which external scores a beam search adds to the model's own (shallow fusion)."""

    lm: Path | None = None
    """Language model: an ARPA file of word n-grams, or the bundle folder of a neural one."""
    lm_weight: float = 0.3
    """Weight of the language model's log-probabilities."""
    hotwords: str | None = None
    """Phrases to boost: a text file with one a line, or phrases separated by commas."""
    hotword_bonus: float = 1.0
    """Added per token of a phrase (natural log)."""
    words: tuple[Path, ...] | None = None
    """Lexicon: files of words, or of texts whose words are meant."""
    oov_penalty: float = 3.0
    """Taken off the score per out-of-lexicon word (natural log)."""

    def settings(self) -> dict[str, Any]:
        """What is used, with its weight, as JSON has it."""
        used: dict[str, Any] = {}
        for source, weight in FUSION_WEIGHTS.items():
            value = getattr(self, source)
            if value is not None:
                plain = [str(path) for path in value] if source == "words" else str(value)
                used |= {source: plain, weight: getattr(self, weight)}
        return used


FUSION_WEIGHTS = {"lm": "lm_weight", "hotwords": "hotword_bonus", "words": "oov_penalty"}
"""Each external score of `FusionOptions`, with the field that says how much it counts."""
