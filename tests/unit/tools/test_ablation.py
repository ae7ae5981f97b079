"""tools/ablation.py: variants of a recipe trained and compared, on a corpus of a few utterances."""

import os

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
    tool = load_tool("ablation")
    tool.main([str(tmp_path / "plan.yaml"), "--out", str(out)])
    rows = out.read_text(encoding="utf-8").splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| as it is", "| attention"]
    assert [row.split(" | ")[5] for row in rows] == ["1", "1"]  # steps
    (folder,) = (tmp_path / "runs").iterdir()
    written = [path.name for path in sorted(folder.glob("*.jsonl"))]
    assert written == ["--decoder-attention.jsonl", "--decoder-ctc.jsonl"]


def test_what_is_transcribed_is_left_alone_until_the_model_or_the_set_is_newer(load_tool, tmp_path):
    is_newer = load_tool("ablation").is_newer
    made, model, manifest = (tmp_path / name for name in ("made", "model", "manifest"))
    model.touch()
    manifest.touch()
    assert not is_newer(made, model, manifest)
    made.touch()
    os.utime(model, (1, 1))
    os.utime(manifest, (1, 1))
    assert is_newer(made, model, manifest)
    os.utime(made, (2, 2))
    os.utime(manifest, (3, 3))
    assert not is_newer(made, model, manifest)


def test_the_difference_is_in_points_of_the_reference_with_an_interval(load_tool):
    tool = load_tool("ablation")
    reference = tool.Result(errors=[[1, 0, 2, 1]], words=[10, 10, 10, 10], minutes=[3.0], steps=100)
    better = tool.Result(errors=[[0, 0, 0, 0]], words=[10, 10, 10, 10], minutes=[3.0], steps=100)
    table = tool.table({"reference": reference, "better": better}).splitlines()
    assert table[2] == "| reference | 10.0 % | 2.5 to 17.5 |  |  | 100 | 3 |"
    assert table[3].startswith("| better | 0.0 % | 0.0 to 0.0 |  | -10.0 (-")


def test_each_set_has_a_table_of_its_own(load_tool):
    tool = load_tool("ablation")
    result = tool.Result()
    run = tool.Run({"one": [1], "two": [0]}, {"one": [4], "two": [5]}, minutes=2.0, steps=7)
    result.add(run, "two")
    assert (result.errors, result.words, result.steps) == ([[0]], [5], 7)
    text = tool.tables({"one": {"a": result}, "two": {"a": result}})
    assert [line for line in text.splitlines() if line.endswith(":")] == ["one:", "two:"]
    assert text.count("| a | 0.0 % |") == 2


def test_a_command_that_fails_names_its_log(load_tool, tmp_path):
    with pytest.raises(SystemExit, match=r"failed: see .*log"):
        load_tool("ablation").call(["info", str(tmp_path / "nothing")], tmp_path / "log", {})


def test_folders_of_many_settings_have_names_that_a_disk_can_take(load_tool):
    name = load_tool("ablation").folder_name
    assert name({"model.tasks.align.weight": 0.0}) == "weight=0.0"
    many = {f"data.setting_{number}": ["a/path/of/some/length"] for number in range(12)}
    other = {**many, "data.setting_11": ["z"]}
    assert len(name(many)) <= 150
    assert name(many) == name(dict(reversed(many.items())))
    assert name(many) != name(other)


def test_settings_reach_the_command_as_they_are(load_tool, tmp_path, monkeypatch):
    tool = load_tool("ablation")
    called = []
    monkeypatch.setattr(tool, "call", lambda arguments, *_: called.extend(arguments))
    plan = tool.Plan("c.yaml", {}, tmp_path, "", "basic", {}, {})
    settings = {"data.tokenizer": "a b.json", "data.mix": [{"name": "old", "share": 0.5}]}
    tool.train(plan, tmp_path, settings, 3, {})
    assert "--data.tokenizer=a b.json" in called
    assert '--data.mix=[{"name": "old", "share": 0.5}]' in called
