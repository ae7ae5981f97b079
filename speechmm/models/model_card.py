"""Writes the card of a bundle: a short README for whoever finds the folder."""

from __future__ import annotations

from speechmm.models.bundle_config import BundleConfig, LanguageBundleConfig
from speechmm.text.tokenizer import Tokenizer


def model_card(
    config: BundleConfig | LanguageBundleConfig, tokenizer: Tokenizer, parameters: int
) -> str:
    """Markdown: what the model does, how to use it, how it was trained.

    Args:
        config: Of the bundle.
        tokenizer: Its text side.
        parameters: Their number.
    """
    size = (
        f"{parameters:,} parameters, {tokenizer.kind} tokenizer with {tokenizer.vocab_size} "
        f"entries, text normalizer `{tokenizer.normalizer}`"
    )
    if isinstance(config, LanguageBundleConfig):
        about = f"A language model for shallow fusion in speech recognition.\n\n{size}.\n\n"
        use = "speechmm transcribe AUDIO --model BUNDLE --beam 10 --lm .\n"
    else:
        about = (
            "One network that transcribes speech and aligns text to it.\n\n"
            f"{size}, audio at {config.features.sample_rate} Hz.\n\n"
        )
        use = (
            "speechmm transcribe AUDIO --model .\n"
            "speechmm align AUDIO --text TEXT --model . --out ALIGNED\n"
        )
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.training.to_json().items())
    return (
        f"# speechmm model\n\n{about}```sh\n{use}```\n\n"
        f"## Training\n\n| what | value |\n|---|---|\n{rows}\n"
    )
