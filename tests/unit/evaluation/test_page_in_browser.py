"""The report's page in headless Chromium, where it is installed: it works, and it is readable."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechmm.cli.main import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
NASTY = "<script>document.title='broken'</script>"

USE = """(async () => {
  const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
  const rows = () => [...document.querySelectorAll("#utterances tbody tr")];
  const ids = () => rows().map(row => row.cells[0].textContent);
  const found = { all: ids() };
  const filter = document.getElementById("filter");
  filter.value = "too";
  filter.dispatchEvent(new Event("input"));
  found.filtered = ids();
  filter.value = "";
  filter.dispatchEvent(new Event("input"));
  document.querySelector("th[data-key=id]").click();
  found.sorted = ids();
  document.querySelector("th[data-key=id]").click();
  found.reversed = ids();
  const kind = document.getElementById("kind");
  kind.value = "right";
  kind.dispatchEvent(new Event("change"));
  found.right = ids();
  const word = [...document.querySelectorAll("#worst .step[data-from]")]
    .find(one => one.textContent.includes("too"));
  const player = word.closest("article").querySelector("audio");
  const began = new Promise(done => player.addEventListener("playing", done, { once: true }));
  const ended = new Promise(done => player.addEventListener("pause", done, { once: true }));
  word.click();
  await Promise.race([began, wait(5000)]);
  found.from = player.currentTime;
  await Promise.race([ended, wait(5000)]);
  found.to = player.currentTime;
  found.paused = player.paused;
  found.marks = document.querySelectorAll(".spectrogram span").length;
  found.width = [document.documentElement.scrollWidth, innerWidth];
  found.color = getComputedStyle(document.body).backgroundColor;
  found.title = document.title;
  return found;
})()"""


class Browser:
    """One page in headless Chromium, driven by its own protocol over a pipe."""

    def __init__(self, folder: Path) -> None:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--mute-audio",
            "--autoplay-policy=no-user-gesture-required",
            f"--user-data-dir={folder / 'profile'}",
            "--remote-debugging-pipe",
        ]
        # Chromium reads from descriptor 3 and writes to 4: they become our two ends of a pipe.
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "$0" "$@" 3<&0 4>&1 1>&2', str(CHROMIUM), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.session: str | None = None
        self.number = 0
        self.troubles: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Asks for something and waits for the answer; errors on the console are noted."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        raw = bytearray()
        while (byte := self.process.stdout.read(1)) != b"\0":
            assert byte, "Chromium has gone"
            raw += byte
        answer: dict[str, Any] = json.loads(raw)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.troubles.append(str(event["params"]["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.troubles.append(event["params"]["entry"]["text"])

    def use(self, page: Path, *, width: int = 1000, scheme: str = "light") -> dict[str, Any]:
        """Opens a page, does what a reader does, and returns what came of it."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=page.as_uri())
        ready = "document.readyState === 'complete' && location.protocol === 'file:'"
        while not self.call("Runtime.evaluate", expression=ready)["result"]["value"]:
            time.sleep(0.05)
        answer = self.call(
            "Runtime.evaluate", expression=USE, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        found: dict[str, Any] = answer["result"]["value"]
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    texts = [
        ("u1", "hello world", "hello world"),
        ("u2", "one two three", "one too three four"),
        ("u10", NASTY, "script"),
    ]
    wave = 0.1 * np.sin(np.arange(2 * 16000) / 8)
    references, hypotheses = [], []
    for id, said, heard in texts:
        audio = folder / f'{id} "it\'s".wav'
        soundfile.write(audio, wave, 16000)
        row = {"id": id, "audio": str(audio), "duration": 2.0}
        references.append({**row, "text": said})
        words = [
            {"word": word, "start": 0.4 * at, "end": 0.4 * at + 0.3, "confidence": 0.9}
            for at, word in enumerate(heard.split(), 1)
        ]
        hypotheses.append({"id": id, "text": heard, "confidence": 0.9, "words": words})
    for name, rows in (("ref", references), ("hyp", hypotheses)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    files = [str(folder / "hyp.jsonl"), str(folder / "ref.jsonl")]
    code = main(["score", *files, "--normalizer", "verbatim", "--out", str(folder / "out")])
    assert code == 0
    return folder / "out/report.html"


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_works_and_fits(width: int, page: Path, browser: Browser) -> None:
    found = browser.use(page, width=width)
    assert browser.troubles == []
    assert "broken" not in found["title"]
    assert found["all"] == ["u2", "u10", "u1"]  # worst first
    assert found["filtered"] == ["u2"]
    assert found["sorted"] == ["u1", "u2", "u10"]
    assert found["reversed"] == ["u10", "u2", "u1"]
    assert found["right"] == ["u1"]
    assert found["marks"] == 4 + 1
    assert found["from"] == pytest.approx(0.8, abs=0.3)  # "too" is from 0.8 to 1.1 s
    assert found["paused"]
    assert 1.1 <= found["to"] < 1.9
    assert found["width"][0] <= found["width"][1]


def test_light_and_dark(page: Path, browser: Browser) -> None:
    assert browser.use(page, scheme="light")["color"] == "rgb(255, 255, 255)"
    assert browser.use(page, scheme="dark")["color"] == "rgb(20, 23, 27)"
    assert browser.troubles == []
