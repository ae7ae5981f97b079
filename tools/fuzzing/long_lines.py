"""Finds what takes quadratic time: long lines of one sign through every reader of texts."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzzing import reading
from fuzzing.attack import Verdict

SIZES = (25_000, 100_000)
"""Letters of the short and of the long line."""
LEAST_SECONDS = 0.4
"""What takes less with the long line is fast enough, whatever it grows like."""
MOST_RATIO = 8.0
"""Times of the long line by those of the short one: 4 is linear, 16 quadratic."""
SIGNS = (
    "a", "A", " ", "\t", "(", ")", "<", ">", "[", "]", "{", "}", "'", '"', ",", ".", "-", "_", "0",
    "1", "9", "$", "%", "&", "&amp;", "\\", "/", "|", ":", ";", "#", "!", "?", "*", "a ", "a'",
    "1,", "1.", "1 ", "$1", "( ", ") ", "<a", "a>", "a.", "a-", "1a", "İ", "ß", "ς", "é", "e\u0301",
    "\u0301\u0316", "\u0301", "\u3000", "\u00a0", "ﷺ", "字", "-->", "00:", "0 ", "(a", "(a)", "a(",
    "<>", "[]", "{}", "{\\", "\\N", "one ", "hundred ", "point ", "and a half ", "£", "½", "٣", "²",
    "-1", "1-", "--", "='", '""', '"a', ";;", "\x1c", "\x85", "\u200d",
)  # fmt: skip
"""What lines are made of."""
_TIMES = "00:00:01,000 --> 00:00:02,000"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A reader with a file whose one long line it is to read."""

    name: str
    file: str
    template: str
    """{} is replaced by the long line."""
    read: Callable[[Path], object]

    def filled(self, sign: str, size: int) -> str:
        """The content of the file with a line of so many letters."""
        line = (sign * (size // len(sign) + 1))[:size]
        return self.template.replace("{{", "{").replace("}}", "}").replace("{}", line)


def subjects() -> list[Subject]:
    """All readers of lines, and the normalizers."""
    places = {
        "a.trn": ("go {} home (u0)\n", "{}\n", "go (u0{}\n", "go (u0{})\n"),
        "a.stm": ("u0 1 ann 0 1 {}\n", "u0 1 ann 0 {} go\n", "u0 1 ann 0 1 <{} go\n", "{}\n"),
        "a.ctm": ("u0 1 0 1 {} 0.5\n", "u0 1 {} 1 go\n", "{}\n"),
        "text": ("u0 {}\n", "{} go\n"),
        "a.txt": ("{}\n", "u0 1 {} 1 go\n", "go {}\n"),
        "a.srt": (f"1\n{_TIMES}\n{{}}\n", "1\n00:00:{},000 --> 00:00:02,000\ngo\n",
                  f"1\n{_TIMES}{{}}\ngo\n"),
        "a.vtt": (f"WEBVTT\n\n{_TIMES}\n{{}}\n", "WEBVTT{}\n"),
        "a.ass": ("[Script Info]\nDialogue: 0,0:00:00.10,0:00:00.90,D,,0,0,0,,{}\n",
                  "[Script Info]\nDialogue: {},0:00:00.10,0:00:00.90,D,,0,0,0,,go\n"),
        "a.TextGrid": ('File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n1\n'
                       '"IntervalTier"\n"word"\n0\n1\n1\n0\n1\n"{}"\n',
                       'File type = "ooTextFile"\nObject class = "TextGrid"\n{}\n'),
        "a.jsonl": ('{{"id": "u0", "text": "{}"}}\n', '{{"id": {}}}\n', "{}\n"),
    }  # fmt: skip
    found = [
        Subject(
            name=f"{reader.__name__} {file} {number}", file=file, template=template, read=reader
        )
        for file, templates in places.items()
        for number, template in enumerate(templates)
        for reader in (reading.text_set, reading.any_text, reading.alignments)
    ]
    tables = ("path\tsentence\nu0.wav\t{}\n", "u0|{}\n", 'u0,"{}"\n', "u0.wav {}\n", "{}\n")
    found += [
        Subject(name=f"table {n}", file="a.tsv", template=template, read=reading.table)
        for n, template in enumerate(tables)
    ]
    arpa = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-1 {}\n\\end\\\n"
    found += [
        Subject(name="arpa", file="a.arpa", template=arpa, read=reading.arpa),
        Subject(
            name="arpa head", file="a.arpa", template="\\data\\\nngram {}=3\n", read=reading.arpa
        ),
        Subject(name="phrases", file="h.txt", template="{}\n", read=reading.phrases),
        Subject(
            name="metrics", file="m.csv", template="epoch,step,{}\n0,1,2\n", read=reading.metrics
        ),
    ]
    for name in ("verbatim", "basic", "english"):
        found.append(
            Subject(name=f"normalize {name}", file="n.txt", template="{}", read=_normalizer(name))
        )
    return found


def _normalizer(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from speechmm.text.normalize import normalize

        return normalize(path.read_text("utf-8"), name)

    return read


def measure() -> Iterator[tuple[str, Verdict]]:
    """A verdict on every reader with every sign."""
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects():
            for sign in SIGNS:
                times = _forked(subject, sign, Path(folder))
                fault = ""
                if times is None:
                    fault = f"{subject.name} {sign!r}: more than 30 s"
                elif times[1] > LEAST_SECONDS and times[1] > MOST_RATIO * times[0]:
                    fault = f"{subject.name} {sign!r}: {times[0]:.2f}, {times[1]:.2f} s"
                verdict = Verdict(code=0, fault=fault, seconds=times[1] if times else 30.0)
                yield f"{subject.name} {sign!r}", verdict


def _forked(subject: Subject, sign: str, folder: Path) -> tuple[float, float] | None:
    """Processor seconds for the short and the long line; None where there is no end."""
    reading_end, writing_end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading_end)
        resource.setrlimit(resource.RLIMIT_CPU, (30, 31))
        os.write(
            writing_end, pickle.dumps([_seconds(subject, sign, size, folder) for size in SIZES])
        )
        os._exit(0)
    os.close(writing_end)
    with os.fdopen(reading_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(process, 0)
    if not answer:
        return None
    short, long = pickle.loads(answer)
    return float(short), float(long)


def _seconds(subject: Subject, sign: str, size: int, folder: Path) -> float:
    path = folder / "in" / subject.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(subject.filled(sign, size), "utf-8", errors="surrogatepass")
    begin = time.process_time()
    with contextlib.suppress(Exception):  # damage.py looks for those
        subject.read(path)
    return time.process_time() - begin
