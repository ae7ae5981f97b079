"""Adds what commands that run a model share: its flags, the search, finding inputs, progress."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError, ManifestError
from speechmm.inference.recognition.options import SearchOptions
from speechmm.options import BATCH_SECONDS, GPU_BATCH_SECONDS, GPU_GIGABYTES, PRECISIONS

if TYPE_CHECKING:
    from speechmm.alignments import Alignment, Transcript
    from speechmm.data.skips import SkipReport
    from speechmm.inference.engine.sources import Source
    from speechmm.models.bundle import Bundle

Item = TypeVar("Item")
Result = TypeVar("Result", "Alignment", "Transcript")
Flagged = tuple[str, tuple[str, ...]]
DECODER_HELP = (
    "what searches: greedy CTC (fastest), the attention decoder, or both jointly (default: "
    "joint, or what the model has of the two; for translations attention)"
)


def add_model_arguments(
    parser: CommandParser, *, batches: bool = True, required: bool = True
) -> None:
    """Adds the options that say which model runs, and how; ``batches`` of audio are what it reads."""
    parser.add_argument(
        "--model", type=Path, required=required, metavar="BUNDLE", help="bundle folder of the model"
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FOLDER",
        help="what a training with model.lora that started from the bundle changed",
    )
    if batches:
        parser.add_argument(
            "--batch-seconds",
            type=PositiveFloat,
            help="audio per batch in seconds; changes speed and memory, and with --quantize alone results "
            f"(default: {BATCH_SECONDS:g}, on a GPU {GPU_BATCH_SECONDS:g} for each {GPU_GIGABYTES} GB of "
            "its memory)",
        )
    parser.add_argument(
        "--device",
        default="auto",
        help="where the model runs: cpu, cuda, cuda:1; auto is a GPU where there is one",
    )
    parser.add_argument(
        "--threads", type=PositiveInt, help="CPU threads; PyTorch's choice when not given"
    )
    parser.add_argument(
        "--quantize",
        choices=PRECISIONS,
        help="8-bit weights on a CPU: faster and smaller, with slightly different results",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad input"
    )


def search_options(arguments: Namespace) -> SearchOptions:
    """How to search, of the flags a command has; its other flags count for nothing here.

    Raises:
        ConfigError: The flags contradict each other.
    """
    names = [field.name for field in fields(SearchOptions)]
    given = {name: getattr(arguments, name, None) for name in names}
    if arguments.ctc_weight is not None:
        translates = getattr(arguments, "task", None) == "translate"
        decoder = arguments.decoder or ("attention" if translates else "joint")
        if decoder != "joint":
            raise ConfigError(
                f"--ctc-weight: has no effect with --decoder {decoder}; expected --decoder "
                "joint. Leave one of the two out."
            )
        given["decoder"] = decoder
    return SearchOptions(**{name: value for name, value in given.items() if value is not None})


def load_model(arguments: Namespace) -> Bundle:
    """The bundle, with the threads and on the device asked for; auto becomes a device in ``arguments``.

    Raises:
        ConfigError: There is no such device.
        CheckpointError: The bundle is missing or damaged.
    """
    import torch

    from speechmm.models.adapter import load_any

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "auto":  # 8-bit weights are for CPUs
        on_gpu = torch.cuda.is_available() and not arguments.quantize
        arguments.device = "cuda" if on_gpu else "cpu"
    try:
        torch.empty(1, device=arguments.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--device: found {arguments.device!r} ({reason}); expected a device PyTorch can use "
            "here, such as cpu. Choose another."
        ) from error
    return load_any(
        arguments.model,
        arguments.adapter,
        device=arguments.device,
        quantize=arguments.quantize,
    )


def add_channel_argument(parser: CommandParser) -> None:
    """Adds the option that takes one channel of several."""
    parser.add_argument(
        "--channel",
        type=NonNegativeInt,
        metavar="N",
        help="the one channel to read of every audio file, counted from 0; their average when not given",
    )


def find_inputs(
    inputs: Sequence[Path], skipped: SkipReport, *, channel: int | None = None
) -> list[Source]:
    """The utterances of the inputs; one bad input alone is an error, among others it is skipped.

    Args:
        inputs: Audio files, folders of them, and cuts manifests.
        skipped: Where bad inputs are noted.
        channel: The one to read of every audio file, counted from 0; None takes their average.

    Raises:
        ConfigError: A channel is given with cuts, which name their channels themselves.
        ManifestError: No input can be used.
    """
    from speechmm.inference.engine.sources import find_sources, holds_cuts

    for path in inputs if channel is not None else ():
        if holds_cuts(path):
            raise ConfigError(
                f"--channel: {path} holds cuts, which name their channels; expected audio files "
                "or folders of them. Leave --channel out, or write it into the cuts."
            )
    sources = [replace(one, channel=channel) for one in find_sources(inputs, skipped)]
    if not sources:
        skipped.print(len(skipped))
        raise ManifestError(skipped.items[0][1])
    if len(sources) + len(skipped) == 1:
        skipped.strict = True
    return sources


def require_files(sources: Iterable[Source], out: Path) -> None:
    """Refuses audio that a manifest cannot name.

    Args:
        sources: The utterances; those of a manifest stay as it names them.
        out: The manifest that is to be written.

    Raises:
        ConfigError: It comes through a pipe, or as standard input.
    """
    from speechmm.files.pipes import is_lasting

    for source in sources:
        if source.cut is None and not is_lasting(Path(source.audio)):
            raise ConfigError(
                f"{source.audio}: this audio is in no file that {out} could name; expected audio files. "
                "Save it first, and name the file."
            )


def note_flagged(results: Iterable[Result], flagged: list[Flagged]) -> Iterator[Result]:
    """The same results; of those with flags, ids and flags are noted."""
    for one in results:
        if one.flags:
            flagged.append((one.id, one.flags))
        yield one


def name_flagged(flagged: Sequence[Flagged], skipped: SkipReport, total: int, *, noun: str) -> int:
    """Names on stderr what was left out and what was flagged; the exit code that follows.

    Args:
        flagged: Ids of results, and their flags.
        skipped: What there is no result of.
        total: Results asked for.
        noun: What they are called, in the plural.
    """
    skipped.print(total, noun=noun)
    for id, flags in flagged:
        print(f"flagged: {id}: {'; '.join(flags)}", file=sys.stderr)
    if flagged:
        print(f"{len(flagged)} of {total} {noun} flagged", file=sys.stderr)
    return 3 if flagged else skipped.exit_code


def show_progress(items: Iterable[Item], total: int, what: str, *, hidden: bool) -> Iterator[Item]:
    """The same items, with a bar on stderr where that is a terminal.

    Args:
        items: What is counted.
        total: How many there will be.
        what: Is being done.
        hidden: Show no bar, because results go to the same terminal.
    """
    if hidden or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(items, total, description=what)


def require_some(items: Iterable[Item], skipped: SkipReport) -> Iterator[Item]:
    """The same items; when there are none at all, nothing is written and the command fails."""
    count = 0
    for item in items:
        count += 1
        yield item
    if count == 0:
        skipped.print(len(skipped))
        raise ManifestError(
            f"no input could be used: {skipped.summary(len(skipped))}; expected at least one good "
            "one. Correct the inputs named above."
        )
