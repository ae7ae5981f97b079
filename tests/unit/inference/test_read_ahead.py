"""Reading in threads: the same stream as without, little of it ahead, and an end to every thread."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmm.errors import AudioError
from speechmm.inference.engine import read_ahead as module
from speechmm.inference.engine.chunks import ChunkResult, EndOfSource
from speechmm.inference.engine.read_ahead import PARTS_AHEAD, SOURCES_AHEAD, Later, read_ahead
from speechmm.inference.engine.sources import Source

Parts = Iterator[ChunkResult[str] | Later]


def cutter(plans: dict[str, list[int]]) -> object:
    """-1 is a fault, -2 a fault nobody foresaw, -3 one in what is done later, 0 done later."""

    def result(source: Source, number: int) -> ChunkResult[str]:
        return ChunkResult(start=float(number), value=source.id)

    def later(source: Source, number: int, kind: int) -> Parts:
        assert threading.current_thread() is threading.main_thread()
        yield result(source, number)
        if kind == -3:
            raise RuntimeError("later")

    def cut(source: Source) -> Parts:
        for number, kind in enumerate(plans[source.id]):
            if kind == -1:
                raise AudioError("damaged")
            if kind == -2:
                raise RuntimeError("a bug")
            if kind in (0, -3):
                yield Later(lambda number=number, kind=kind: later(source, number, kind))
            else:
                yield result(source, number)

    return cut


def shown(items: Iterator[object]) -> list[tuple[object, ...]]:
    return [
        (item.source.id, str(item.error))
        if isinstance(item, EndOfSource)
        else (item.value, item.start)  # type: ignore[attr-defined]
        for item in items
    ]


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from([1, 1, 1, 0, -1, -2, -3]), max_size=12), max_size=12))
def test_threads_read_the_same_in_the_same_order(plans: list[list[int]]) -> None:
    named = {f"s{index}": plan for index, plan in enumerate(plans)}
    cut = cutter(named)
    expected = shown(read_ahead([Source(id=name) for name in named], cut, readers=0))  # type: ignore[arg-type]
    for readers in (1, 3):
        found = read_ahead((Source(id=name) for name in named), cut, readers=readers)  # type: ignore[arg-type]
        assert shown(found) == expected
    assert sum(len(row) == 2 and isinstance(row[1], str) for row in expected) == len(plans)


def test_little_is_read_ahead_and_threads_end_with_who_asked() -> None:
    made: list[str] = []

    def cut(source: Source) -> Parts:
        for number in range(100):
            made.append(source.id)
            yield ChunkResult(start=float(number), value=source.id)

    before = set(threading.enumerate())  # threads of other tests may end meanwhile
    asked: list[str] = []

    def sources() -> Iterator[Source]:
        for number in range(1000):
            asked.append(str(number))
            yield Source(id=str(number))

    items = read_ahead(sources(), cut, readers=2)
    next(items)
    time.sleep(0.3)
    assert len(asked) <= 2 * SOURCES_AHEAD
    assert len(made) <= 2 * (PARTS_AHEAD + 1) + 1
    readers = set(threading.enumerate()) - before
    assert len(readers) == 2
    items.close()
    for reader in readers:
        reader.join(timeout=10)
    assert not any(reader.is_alive() for reader in readers)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_ends_the_program_in_a_thread_ends_it(error: type[BaseException]) -> None:
    def cut(source: Source) -> Parts:
        raise error
        yield

    with pytest.raises(error):
        list(read_ahead([Source(id="a")], cut, readers=1))


def test_commands_give_the_same_with_threads(
    tone_bundle: object, speak: object, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechmm.data.skips import SkipReport
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.recognition.options import SearchOptions
    from speechmm.inference.recognition.transcriber import Transcriber

    texts = ["ab", "cd ef", "a b c d e f g h " * 6, "gh"]
    paths = [speak(text).save(tmp_path / f"{at}.wav") for at, text in enumerate(texts)]  # type: ignore
    paths.insert(2, tmp_path / "none.wav")  # type: ignore[operator]
    sources = [
        Source(id=path.stem, audio=str(path), text=text)
        for path, text in zip(paths, [*texts[:2], "x", *texts[2:]], strict=True)
    ]
    rows = []
    for readers in (0, 3):
        for name in ("recognition.transcriber", "alignment.aligner"):
            monkeypatch.setattr(
                f"speechmm.inference.{name}.readers_for", lambda _, count=readers: count
            )
        skipped = SkipReport()
        transcriber = Transcriber(tone_bundle, options=SearchOptions(decoder="ctc"))  # type: ignore
        found: list[object] = list(transcriber.transcribe_sources(sources, skipped=skipped))
        found += list(Aligner(tone_bundle).align_sources(sources, skipped=skipped))  # type: ignore
        rows.append((found, skipped.items))
    assert len(rows[0][0]) == 8 and len(rows[0][1]) == 2
    assert rows[0] == rows[1]
    assert module.readers_for(transcriber.encoder.device) <= 8
