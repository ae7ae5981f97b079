"""tools/ablation.py: variants of a recipe trained and compared, on a corpus of a few utterances."""

import pytest
import yaml

CONFIG = {
    "data": {"batch_seconds": 40, "num_workers": 0},
    "model": {
        "network": {
            "d_model": 16,
            "heads": 2,
            "ff_dim": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "front_channels": 8,
        }
    },
    "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "max_steps": 1},
}


def test_variants_that_only_decode_differently_share_a_training(load_tool, spoken, tmp_path):
    manifests = {split: str(spoken / f"{split}.jsonl.gz") for split in ("train", "dev")}
    config = {**CONFIG, "data": {**CONFIG["data"], "tokenizer": str(spoken / "tokenizer.json")}}
    config["data"] |= {"train": [manifests["train"]], "dev": [manifests["dev"]]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    plan = {
        "config": str(tmp_path / "config.yaml"),
        "manifest": manifests["dev"],
        "folder": str(tmp_path / "runs"),
        "decode": "--decoder ctc",
        "variants": {"as it is": None, "attention": {"decode": "--decoder attention"}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    out = tmp_path / "table.md"
    load_tool("ablation").main([str(tmp_path / "plan.yaml"), "--out", str(out)])
    rows = out.read_text(encoding="utf-8").splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| as it is", "| attention"]
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_the_difference_is_in_points_of_the_reference_with_an_interval(load_tool):
    tool = load_tool("ablation")
    reference = tool.Result(errors=[[1, 0, 2, 1]], words=[10, 10, 10, 10], minutes=[3.0])
    better = tool.Result(errors=[[0, 0, 0, 0]], words=[10, 10, 10, 10], minutes=[3.0])
    table = tool.table({"reference": reference, "better": better}).splitlines()
    assert table[2] == "| reference | 10.0 % |  |  | 3 |"
    assert table[3].startswith("| better | 0.0 % |  | -10.0 (-")


def test_a_command_that_fails_names_its_log(load_tool, tmp_path):
    with pytest.raises(SystemExit, match=r"failed: see .*log"):
        load_tool("ablation").call(["info", str(tmp_path / "nothing")], tmp_path / "log", {})
