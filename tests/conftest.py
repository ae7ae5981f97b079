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


WHISPER_MARKS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>"]
WHISPER_MARKS += ["<|transcribe|>", "<|notimestamps|>", "<|0.00|>"]


@pytest.fixture(scope="session")
def make_whisper() -> Callable[..., Any]:
    """Writes a random Whisper as transformers keeps it, with byte-level BPE learned from some texts."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")

    def make(folder: Path, texts: list[str], *, multilingual: bool = True, n_mels: int = 20) -> Any:
        bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=alphabet, show_progress=False
        )
        # letters of two bytes that are pieces of their own
        umlauts = ["äh", "mäh", "säge", "räte", "käse", "lüge", "müde", "tür", "für"]
        bpe.train_from_iterator([f" {text}" for text in texts + umlauts], trainer)
        bpe.add_special_tokens(WHISPER_MARKS)
        folder.mkdir(exist_ok=True)
        bpe.save(str(folder / "tokenizer.json"))
        torch.manual_seed(0)
        config = transformers.WhisperConfig(
            vocab_size=bpe.get_vocab_size(),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=40,
            num_mel_bins=n_mels,
            max_source_positions=50,
            max_target_positions=24,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
        model = transformers.WhisperForConditionalGeneration(config)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
        model.eval().save_pretrained(folder)
        told = json.dumps({"is_multilingual": multilingual})
        (folder / "generation_config.json").write_text(told)
        return model

    return make
