"""Refuses what a damaged model says."""

from speechmm.errors import CheckpointError


def refuse_nan(found: bool) -> None:
    """Refuses a model whose scores are not numbers.

    Args:
        found: Whether a score is NaN, which finite audio and sound weights never give.

    Raises:
        CheckpointError: It is.
    """
    if found:
        raise CheckpointError(
            "the model: its scores are not numbers (NaN); expected finite ones. The bundle is "
            "damaged, or its training has diverged: take another bundle."
        )
