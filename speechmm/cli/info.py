"""Runs ``speechmm info``: what a bundle, an audio file or a manifest holds."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechmm.cli.arguments import CommandParser
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.files.pipes import is_pipe, starts_like_rows
from speechmm.files.shar import is_shar
from speechmm.options import MANIFEST_SUFFIXES
from speechmm.text.languages import languages_of

if TYPE_CHECKING:
    from lhotse import CutSet

    from speechmm.models.bundle import Bundle


def run(argv: list[str]) -> int:
    """Prints what a bundle, an audio file or a manifest holds."""
    parser = CommandParser(
        "info", description="Say what a bundle folder, an audio file or a cuts manifest holds."
    )
    parser.add_argument("input", type=Path, metavar="BUNDLE_OR_AUDIO_OR_CUTS", help="what to read")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of lines"
    )
    arguments = parser.parse_args(argv)
    skipped = SkipReport()
    facts = describe(arguments.input, skipped)
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        print("\n".join(fact_lines(facts)))
    skipped.print(facts.get("utterances", 0) + len(skipped), noun="lines")
    return skipped.exit_code


def describe(path: Path, skipped: SkipReport) -> dict[str, Any]:
    """Facts about a file or folder; the key ``kind`` says which of the three it is.

    Broken lines of a manifest are noted in ``skipped``.
    """
    if not (path.exists() or is_pipe(path)):
        raise ConfigError(
            f"{path}: no such file or folder; expected a bundle, an audio file or a manifest. "
            "Check the path."
        )
    rows = is_pipe(path) and starts_like_rows(path)
    if rows or path.name.endswith(MANIFEST_SUFFIXES) or is_shar(path):
        return _describe_cuts(path, skipped)
    if path.is_dir():
        return _describe_bundle(path)
    return _describe_audio(path)


def _describe_bundle(path: Path) -> dict[str, Any]:
    from speechmm.models.bundle import load_bundle
    from speechmm.models.pretrained.description import describe as describe_encoder

    bundle = load_bundle(path)
    encoder, voice = describe_encoder(bundle.model.encoder), bundle.model.voice
    return {
        "kind": "bundle",
        "path": str(path),
        "parameters": sum(weights.numel() for weights in bundle.model.parameters()),
        "weights_sha256": bundle.sha256,
        "tokenizer": {
            "kind": bundle.tokenizer.kind,
            "normalizer": bundle.tokenizer.normalizer,
            "language": bundle.tokenizer.language,
            "vocab_size": bundle.tokenizer.vocab_size,
        },
        "features": dataclasses.asdict(bundle.features),
        "heads": sorted(bundle.heads),
        **_languages(bundle),
        "model": dataclasses.asdict(bundle.model.config),
        **({} if encoder is None else {"encoder": dataclasses.asdict(encoder)}),
        **({} if voice is None else {"voice": _plain(dataclasses.asdict(voice.config))}),
        "training": bundle.training.to_json(),
    }


def _languages(bundle: "Bundle") -> dict[str, Any]:
    """What the decoder has learned to write in which languages, where it knows of any."""
    names = bundle.model.decoder.names if "decoder" in bundle.heads else ()
    found = {
        "languages": languages_of("asr", names),
        "translates_into": languages_of("translate", names),
    }
    return {name: list(codes) for name, codes in found.items() if codes}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON has them, tuples being lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def _describe_audio(path: Path) -> dict[str, Any]:
    from speechmm.audio.io import audio_info

    facts = dataclasses.asdict(audio_info(path))
    return {"kind": "audio", **facts, "path": str(path)}


def _describe_cuts(path: Path, skipped: SkipReport) -> dict[str, Any]:
    from speechmm.data.manifest import read_cuts

    cuts = read_cuts(path, skipped)
    durations = [cut.duration for cut in cuts]
    return {
        "kind": "cuts",
        "path": str(path),
        "utterances": len(durations),
        "hours": round(sum(durations) / 3600, 4),
        "shortest_seconds": round(min(durations, default=0.0), 3),
        "longest_seconds": round(max(durations, default=0.0), 3),
        **_describe_supervisions(cuts),
        "stored_features": sum(cut.has_features for cut in cuts),
    }


def _describe_supervisions(cuts: "CutSet") -> dict[str, Any]:
    from speechmm.data.manifest import cut_translations

    supervisions = [supervision for cut in cuts for supervision in cut.supervisions]
    return {
        "words": sum(len((supervision.text or "").split()) for supervision in supervisions),
        "speakers": len({s.speaker for s in supervisions if s.speaker}),
        "languages": sorted({s.language for s in supervisions if s.language}),
        "translated_into": sorted({into for cut in cuts for into in cut_translations(cut)}),
        "sample_rates": sorted({cut.sampling_rate for cut in cuts}),
        "aligned_units": sorted({unit for s in supervisions for unit in s.alignment or ()}),
    }


def fact_lines(facts: dict[str, Any], prefix: str = "") -> list[str]:
    """Facts a line each, those within others under joined names."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += fact_lines(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            lines.append(f"{prefix}{key}: {', '.join(map(str, value)) or '-'}")
        else:
            lines.append(f"{prefix}{key}: {value}")
    return lines
