"""Defines how recognition searches: decoders, beam and weights; imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from speechmm.errors import ConfigError

DECODERS = ("ctc", "attention", "joint")
"""Greedy CTC, the attention decoder alone, or the decoder with CTC prefix scores."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search."""

    decoder: str = "joint"
    """Which scores count: ctc (greedy, fastest), attention, or joint."""
    beam: int = 1
    """Hypotheses kept per utterance."""
    ctc_weight: float = 0.3
    """Share of the CTC prefix score in the joint score, 0 to 1."""
    length_bonus: float = 0.0
    """Added per token (natural log), against too short results."""
    n_best: int = 1
    """Results per utterance, best first."""

    @property
    def outputs(self) -> frozenset[str]:
        """What of the model is read (``speechmm.models.speech_text.OUTPUTS``)."""
        if self.decoder == "ctc":
            return frozenset(["ctc"])
        return frozenset(["decoder", "ctc"] if self.uses_ctc_prefixes else ["decoder"])

    @property
    def uses_ctc_prefixes(self) -> bool:
        """Whether a beam search adds CTC prefix scores."""
        return self.decoder == "joint" and self.ctc_weight > 0

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
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
