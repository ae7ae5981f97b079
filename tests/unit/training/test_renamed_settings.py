"""Configs and flags of earlier versions: the same settings under today's names, with a notice."""

import logging

import pytest
import yaml

from speechmm.training.renamed_settings import RENAMED, upgrade_arguments, upgrade_settings

OLD = {
    "model": {
        "network": {"utterance_mean": True, "d_model": 16},
        "objectives": {"ctc_weight": 0.4, "guidance_weight": 0.3, "align_weight": 0.5},
        "augment": {"voice": 0.1, "join_most": 3, "freq_masks": 1},
        "room": {"noise_share": 0.2},
        "recombination": {"share": 0.7},
    }
}
NEW = {
    "model": {
        "network": {"utterance_cmn": True, "d_model": 16},
        "tasks": {
            "asr": {"ctc_weight": 0.4},
            "guided_attention": {"weight": 0.3},
            "align": {"weight": 0.5},
        },
        "augmentation": {
            "features": {"vtlp": 0.1},
            "concatenation": {"max_utterances": 3},
            "spec_augment": {"freq_masks": 1},
            "noise_reverb": {"noise_share": 0.2},
            "recombination": {"share": 0.7},
        },
    }
}


def test_settings_get_their_names_of_today(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert upgrade_settings(OLD, "old.yaml") == NEW
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("old.yaml: ")
    assert "model.augment.voice is now model.augmentation.features.vtlp" in message
    assert "d_model" not in message
    caplog.clear()
    assert upgrade_settings(NEW, "new.yaml") == NEW
    assert not caplog.records


@pytest.mark.parametrize("equals", [True, False])
def test_flags_and_files(tmp_path, equals: bool) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(OLD))
    given = {"--config": str(file), "--model.network.reach": "3", "--trainer.max_epochs": "2"}
    arguments = (
        [f"{flag}={value}" for flag, value in given.items()]
        if equals
        else [part for pair in given.items() for part in pair]
    )
    found = upgrade_arguments(arguments)
    if equals:
        found = [part for flag in found for part in flag.split("=", 1)]
    assert yaml.safe_load(found[1]) == NEW
    assert found[2:] == ["--model.network.attention_window", "3", "--trainer.max_epochs", "2"]


def test_a_whole_section_as_a_flag() -> None:
    found = upgrade_arguments(["--model.objectives={ctc_weight: 0.4, align_weight: 0}"])
    assert found == ["--model.tasks.asr.ctc_weight=0.4", "--model.tasks.align.weight=0"]


def test_files_of_today_and_files_that_are_none_stay(tmp_path) -> None:
    today = tmp_path / "new.yaml"
    today.write_text(yaml.safe_dump(NEW))
    arguments = ["--config", str(today), "--config", str(tmp_path / "missing.yaml")]
    assert upgrade_arguments(arguments) == arguments


def test_every_name_of_today_exists() -> None:
    """The right-hand sides are settings that the parser knows, with the defaults of before."""
    from speechmm.models.speech_text_config import SpeechTextConfig
    from speechmm.training import AugmentationConfig, TasksConfig

    roots = {
        "network": SpeechTextConfig(),
        "tasks": TasksConfig(),
        "augmentation": AugmentationConfig(),
    }
    for name in RENAMED.values():
        _, root, *path = name.split(".")
        value = roots[root]
        for part in path:
            value = getattr(value, part)


@pytest.mark.usefixtures("no_picture")
def test_a_training_with_an_old_config_is_that_with_todays(shop) -> None:
    train, dev = shop.corpus("old-train", 4), shop.corpus("old-dev", 2)
    old = {"objectives": {"ctc_weight": 0.5, "align_warmup_steps": 2}, "augment": {"voice": 0.1}}
    new = {
        "tasks": {"asr": {"ctc_weight": 0.5}, "align": {"warmup_steps": 2}},
        "augmentation": {"features": {"vtlp": 0.1}},
    }
    outcomes = {
        name: shop.fit(shop.config(name, train, dev, model=settings))
        for name, settings in {"old": old, "new": new}.items()
    }
    assert [outcome.code for outcome in outcomes.values()] == [0, 0]
    assert "model.augment.voice is now model.augmentation.features.vtlp" in outcomes["old"].err
    assert "is now" not in outcomes["new"].err
    rows = [(shop.root / "runs" / name / "metrics.csv").read_text() for name in outcomes]
    assert rows[0] == rows[1]


def test_names_of_before_in_python(caplog: pytest.LogCaptureFixture) -> None:
    from speechmm.training import JointModule, ObjectivesConfig, TasksConfig
    from speechmm.training.tasks import Align, Asr

    with caplog.at_level(logging.WARNING):
        module = JointModule(objectives=ObjectivesConfig(ctc_weight=0.4, align_weight=0.5))
    assert module.tasks == TasksConfig(asr=Asr(ctc_weight=0.4), align=Align(weight=0.5))
    assert "objectives is now tasks" in caplog.text
    assert ObjectivesConfig() == TasksConfig()
    with pytest.raises(TypeError, match="no setting ctc_wait"):
        ObjectivesConfig(ctc_wait=0.4)
    with pytest.raises(TypeError, match="no argument room; it is part of augmentation"):
        JointModule(room=1)
    with pytest.raises(TypeError, match=r"no argument rooms$"):
        JointModule(rooms=1)


def test_a_setting_that_follows_from_others_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"model": {"room": {"frame_seconds": 0.01, "noise_share": 0.2}}}
    with caplog.at_level(logging.WARNING):
        found = upgrade_settings(settings, "old.yaml")
    assert found == {"model": {"augmentation": {"noise_reverb": {"noise_share": 0.2}}}}
    assert "old.yaml: model.room.frame_seconds is ignored" in caplog.text
    assert upgrade_arguments(["--model.room.frame_seconds=0.01"]) == []
