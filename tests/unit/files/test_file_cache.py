"""What was found out about files is kept, in bounded memory, for all threads."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speechmm.files.file_cache import FileCache, file_state

PATH = Path("a.wav")


def never() -> str:
    raise AssertionError("it is kept")


def test_a_finding_is_kept_for_its_file_state_and_question() -> None:
    cache: FileCache[str] = FileCache(10)
    assert cache.get(PATH, (1,), lambda: "first", 0) == "first"
    assert cache.get(PATH, (1,), never, 0) == "first"
    assert cache.get(PATH, (2,), lambda: "altered", 0) == "altered"
    assert cache.get(PATH, (1,), lambda: "other question", 1) == "other question"
    assert cache.get(Path("b.wav"), (1,), lambda: "other file", 0) == "other file"


def test_an_altered_file_has_another_state(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12")
    states = {file_state(path.stat())}
    os.utime(path, ns=(0, 5))
    states.add(file_state(path.stat()))
    path.write_bytes(b"123")
    os.utime(path, ns=(0, 5))
    states.add(file_state(path.stat()))
    assert len(states) == 3


def test_what_was_not_asked_for_longest_goes() -> None:
    cache: FileCache[str] = FileCache(6, len)
    cache.get(PATH, (1,), lambda: "aaa")
    cache.get(PATH, (2,), lambda: "bbb")
    cache.get(PATH, (1,), never)
    cache.get(PATH, (3,), lambda: "c")
    cache.get(PATH, (1,), never)
    cache.get(PATH, (3,), never)
    assert cache.get(PATH, (2,), lambda: "again") == "again"
    assert cache.get(PATH, (4,), lambda: "larger than all") == "larger than all"
    assert cache.get(PATH, (4,), lambda: "not kept") == "not kept"


def test_nothing_is_kept_of_a_failure() -> None:
    cache: FileCache[str] = FileCache(6)
    with pytest.raises(ZeroDivisionError):
        cache.get(PATH, (1,), lambda: str(1 // 0))
    assert cache.get(PATH, (1,), lambda: "found") == "found"


def test_threads_get_what_they_ask_for() -> None:
    cache: FileCache[int] = FileCache(3)
    start = threading.Barrier(8)

    def ask(first: int) -> bool:
        start.wait()
        numbers = [(first + step) % 10 for step in range(2000)]
        return all(cache.get(PATH, (n,), lambda n=n: n) == n for n in numbers)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
