"""Runs ``speechmm export``: a bundle as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

from jsonargparse.typing import PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError
from speechmm.files.protection import holds_input


def run(argv: list[str]) -> int:
    """Writes encoder, decoder step, tokenizer and their description."""
    arguments = _parser().parse_args(argv)
    from speechmm.models.bundle import load_bundle
    from speechmm.models.onnx_export import export_bundle

    if holds_input(arguments.out):
        raise ConfigError(
            f"{arguments.out}: is the bundle itself; expected another folder for the graphs. Name one."
        )
    bundle = load_bundle(arguments.bundle)
    export_bundle(bundle, arguments.out, opset=arguments.opset, language=arguments.language)
    for path in sorted(arguments.out.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "export",
        description="Write a bundle as ONNX graphs, for programs without PyTorch. Needs the extra "
        "onnx. What goes in and comes out: docs/onnx.md.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle folder of the model")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the files")
    parser.add_argument(
        "--opset", type=PositiveInt, default=18, help="version of the ONNX operators"
    )
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="language that is spoken, of a model of several: the graphs are for one",
    )
    return parser
