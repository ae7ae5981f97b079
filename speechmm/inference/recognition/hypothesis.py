"""Defines what a search returns: token ids with their scores."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Hypothesis:
    """One search result."""

    tokens: list[int]
    score: float
    """Log-probability under the search's own criterion (natural log)."""
    token_log_probs: list[float] = field(default_factory=list)
    """Natural log of each token's probability, for confidence."""
