"""Runs ``speechmm import``: names the pretrained encoder that a folder holds."""

import json
from pathlib import Path
from typing import Any

from speechmm.cli.arguments import CommandParser
from speechmm.cli.info import fact_lines


def run(argv: list[str]) -> int:
    """Prints what was found; a folder that cannot be used is refused."""
    parser = CommandParser(
        "import",
        description="Say which pretrained encoder a folder in Hugging Face's layout (config.json, "
        "model.safetensors) holds, and check that a training can stand on it: Whisper, wav2vec 2.0, "
        "XLS-R, MMS, HuBERT, WavLM; of Whisper, which decoder, too. Nothing is written or downloaded.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of lines"
    )
    arguments = parser.parse_args(argv)
    facts = describe_folder(arguments.folder)
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        use = f"--model.pretrained {arguments.folder}"
        if "decoder_layers" in facts:
            use += " (and --model.pretrained_decoder LANGUAGE, which goes on with its decoder)"
        print("\n".join([*fact_lines(facts), f"use: {use}"]))
    return 0


def describe_folder(folder: Path) -> dict[str, Any]:
    """Facts about the encoder of a folder.

    Raises:
        CheckpointError: It holds none that is known, or a damaged one.
    """
    from speechmm.models.pretrained.description import describe
    from speechmm.models.pretrained.folder import read_pretrained
    from speechmm.models.pretrained.whisper_decoder import has_decoder, read_decoder

    found = read_pretrained(folder)
    info = describe(found.encoder)
    assert info is not None
    features = info.config.features
    reads = "waveform" if found.reads_waveforms else f"log-mel features, {features.n_mels} bands"
    facts = {
        "kind": found.kind,
        "path": str(folder),
        "parameters": found.parameters,
        "layers": info.config.layers,
        "width": info.config.width,
        "attention_heads": info.config.heads,
        "feed_forward": info.config.ff_dim,
        "reads": reads,
        "sample_rate": features.sample_rate,
        "frame_seconds": info.config.subsampling * features.frame_shift,
        "unused_weights": len(found.unused),
    }
    if has_decoder(folder):
        decoder = read_decoder(folder, None)
        facts |= {
            "decoder_layers": decoder.layers,
            "decoder_languages": " ".join(decoder.languages),
        }
    return facts
