"""What all tests share: one thread, repeatable hypothesis runs, real recordings, golden numbers."""

import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: small tensors, few cores

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch.utils._python_dispatch import TorchDispatchMode

from speechmm.text.ngram import END, START, NgramModel

# Autograd makes its threads now: once a test has made up a GPU, it would make some for that, and
# processes forked later could not go backward.
torch.ones((), requires_grad=True).backward()

settings.register_profile(
    "speechmm",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("speechmm")

GOLDEN_FOLDER = Path(__file__).parent / "golden"
CORPORA_VARIABLE = "SPEECHMM_CORPORA"

CheckGolden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write tests/golden/*.json from this run"
    )
    parser.addoption(
        "--exact-golden",
        action="store_true",
        help="compare with tests/golden/*.json to the last digit, on the machine that wrote them",
    )


WAITING = {
    "_local_scalar_dense": "a number is read back",
    "nonzero": "the host must know how many there are",
    "masked_select": "the host must know how many there are",
    "_unique2": "the host must know how many there are",
    "unique_consecutive": "the host must know how many there are",
    "unique_dim_consecutive": "the host must know how many there are",
}
"""Operations for which a host waits for its GPU."""


class NoWaits(TorchDispatchMode):
    """Raises where a host would wait for its GPU: numbers read back, blocking copies, bool indices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        assert name not in WAITING, f"{func}: {WAITING[name]}"
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        if "copy" not in name:  # a single number of the host goes along with the kernel
            tensors = [one for one in tensors if one.ndim or one.device.type != "cpu"]
        devices = {one.device.type for one in tensors}
        if name in ("index", "index_put"):
            indices = [one for one in args[1] if one is not None]
            assert all(one.dtype != torch.bool for one in indices), f"{func}: a mask as index"
            devices |= {one.device.type for one in indices if one.ndim}
        if name in ("_to_copy", "copy") and kwargs.get("device") is not None:
            devices.add(torch.device(kwargs["device"]).type)
        if not kwargs.get("non_blocking") and any(one.ndim for one in tensors):
            assert len(devices) < 2, f"{func}: a blocking copy between {devices}"
        return func(*args, **kwargs)


@pytest.fixture
def no_waits() -> Callable[[], Any]:
    """``with no_waits():`` fails where a host would wait for its GPU; needs no GPU.

    The operations are checked, whatever device they run on. Where there is a GPU, PyTorch's own
    check of the driver's calls runs as well.
    """

    @contextmanager
    def check() -> Iterator[None]:
        if not torch.cuda.is_available():
            with NoWaits():
                yield
            return
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that this is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            with NoWaits():
                yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    return check


@pytest.fixture(scope="session")
def sentence_log_prob() -> Callable[[NgramModel, str], float]:
    """Natural log-probability of a whole sentence under an n-gram model, its end included."""

    def log_prob(model: NgramModel, sentence: str) -> float:
        words = [START, *sentence.split(), END]
        return sum(model.score(words[n], words[:n]) for n in range(1, len(words)))

    return log_prob


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of the real corpora; the test is skipped where SPEECHMM_CORPORA names none."""
    folder = os.environ.get(CORPORA_VARIABLE, "")
    if not folder:
        pytest.skip(f"{CORPORA_VARIABLE} does not name a folder of real corpora")
    if not Path(folder).is_dir():
        pytest.fail(f"{CORPORA_VARIABLE}={folder} is no folder")
    return Path(folder)


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> CheckGolden:
    """``check_golden(name, numbers, rel=..., abs=...)`` compares with ``tests/golden/<name>.json``.

    The numbers are a flat mapping; the tolerance is stated by each test.
    """

    def check(name: str, numbers: dict[str, float], *, rel: float = 0.0, abs: float = 0.0) -> None:
        path = GOLDEN_FOLDER / f"{name}.json"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        expected = json.loads(path.read_text(encoding="utf-8"))
        if request.config.getoption("--exact-golden"):
            assert numbers == expected
        assert numbers == pytest.approx(expected, rel=rel, abs=abs)

    return check
