"""tools/ctc_baseline.py: CTC as the peer of the aligners, its loss against torch's."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from speechmm.alignments.jsonl import read_jsonl
from speechmm.text.tokenizer import AlignedTokens


def test_the_loss_is_that_of_torch(load_tool) -> None:
    tool = load_tool("ctc_baseline")
    texts = [
        AlignedTokens([0, 1, 1, 0, 2, 0], [-1, 0, 0, -1, 1, -1], ["aa", "b"]),
        AlignedTokens([0, 0, 0], [-1, 0, -1], ["c"]),
    ]
    batch = [SimpleNamespace(text=SimpleNamespace(aligned=one)) for one in texts]
    log_probs = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    lengths = torch.tensor([9, 5])
    expected = F.ctc_loss(
        log_probs.transpose(0, 1),
        torch.tensor([[2, 2, 3], [1, 0, 0]]),
        lengths,
        torch.tensor([3, 1]),
        reduction="sum",
    )
    assert float(tool.ctc_loss(log_probs, lengths, batch)) == pytest.approx(
        float(expected) / 14, rel=1e-4
    )


@pytest.mark.parametrize("prior", ["0", "0.3"])
def test_words_and_phones_are_placed(load_tool, spoken: Path, tmp_path: Path, prior: str) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [str(spoken / "test.jsonl.gz"), str(out), "--epochs", "1", "--prior", prior]
    load_tool("ctc_baseline").main(arguments)
    found = read_jsonl(out)
    assert len(found) == 3
    for one in found:
        assert one.units["word"]
        assert all(0 <= unit.start < unit.end <= one.duration for unit in one.units["phone"])
