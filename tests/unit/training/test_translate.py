"""Training in several languages: tags, translations, and what they leave alone."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.dataset import SpeechDataset
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.data.plan import BatchPlan, Piece, PlannedUtterance
from speechmm.data.translated import Languages
from speechmm.errors import ConfigError
from speechmm.models.bundle import load_bundle, save_bundle
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.augmentation.silence import SilenceAugmenter, SilenceConfig
from speechmm.training.callbacks.metrics import read_metrics
from speechmm.training.starting_weights import take_weights
from speechmm.training.tasks import Align, Asr, Step, TasksConfig, Text, Translate, sum_losses

pytestmark = pytest.mark.usefixtures("no_picture")

BOTH = Languages(("de", "en"), ("en", "fr"))
TASKS = TasksConfig(
    asr=Asr(language_tags=True), align=Align(weight=0.0), translate=Translate(weight=1.0)
)
CONFIG = SpeechTextConfig(
    d_model=16,
    heads=2,
    ff_dim=16,
    encoder_layers=1,
    decoder_layers=1,
    front_channels=4,
    dropout=0.0,
)


def cut(shop, name, text="go home", language=None, **translations):
    plain = shop.cut(name, 0.8, text)
    audio = plain.recording.sources[0].source
    return make_cut(id=name, audio=audio, text=text, language=language, translations=translations)


@pytest.fixture(scope="module")
def cuts(shop):
    return [
        cut(shop, "a", language="DE", en="go now", fr="a word"),
        cut(shop, "b", language="en"),
        cut(shop, "c", language="de_AT", en="home"),
        cut(shop, "d"),
    ]


def batch_of(shop, rows, languages=BOTH):
    dataset = SpeechDataset(Tokenizer.load(shop.tokenizer), LogMelConfig(), languages=languages)
    return dataset[BatchPlan([[PlannedUtterance(one) for one in row] for row in rows])]


def step_of(shop, batch, tasks=TASKS, languages=BOTH):
    torch.manual_seed(0)
    tokenizer = Tokenizer.load(shop.tokenizer)
    model = SpeechTextModel(
        CONFIG, vocab_size=tokenizer.vocab_size, n_mels=80, heads=tasks.heads,
        tags=tasks.tags_in(languages),
    ).train()  # fmt: skip
    encoding = model.encode_speech(batch.features, batch.feature_lengths)
    return Step(model=model, batch=batch, encoding=encoding, tokenizer=tokenizer,
                log_mel=LogMelConfig())  # fmt: skip


def test_a_batch_says_which_languages_its_rows_are_in_and_what_they_are_translated_into(shop, cuts):
    a, b, c, d = cuts
    batch = batch_of(shop, [[a], [b], [c], [d], [a, c], [a, b]])
    assert batch.languages.tolist() == [0, 1, -1, -1, -1, -1]  # "de_AT" is "de-", another one
    found = batch.translations
    tokenizer = Tokenizer.load(shop.tokenizer)
    texts = [
        tokenizer.decode(row[:n])
        for row, n in zip(found.tokens.tolist(), found.token_lengths, strict=True)
    ]
    rows = zip(found.rows.tolist(), found.languages.tolist(), texts, strict=True)
    assert list(rows) == [
        (0, 0, "go now"), (0, 1, "a word"), (2, 0, "home"), (4, 0, "go now home"),
    ]  # fmt: skip
    doubled = batch.duplicated()
    assert doubled.languages.tolist() == batch.languages.tolist() * 2
    assert doubled.translations is found
    moved = batch.to("cpu").translations
    assert moved is not found
    assert torch.equal(moved.tokens, found.tokens)


def test_what_is_recombined_has_no_translation(shop, cuts):
    dataset = SpeechDataset(Tokenizer.load(shop.tokenizer), LogMelConfig(), languages=BOTH)
    a, b = cuts[:2]
    same = PlannedUtterance(b, (Piece(a, (0, 1), 0, 20), Piece(a, (1, 2), 20, 40)))
    mixed = PlannedUtterance(a, (Piece(a, (0, 1), 0, 20), Piece(b, (1, 2), 20, 40)))
    batch = dataset[BatchPlan([[same], [mixed]])]
    assert (batch.languages.tolist(), batch.translations) == ([0, -1], None)


def test_without_languages_a_batch_is_what_it_was(shop, cuts):
    batch = batch_of(shop, [[one] for one in cuts], languages=None)
    assert batch.languages is batch.translations is None
    only = batch_of(shop, [[one] for one in cuts], languages=Languages((), ("fr",)))
    assert only.languages is None
    assert only.translations.rows.tolist() == [0]


def test_rows_of_silence_have_a_language_and_nothing_to_tell(shop, cuts):
    batch = batch_of(shop, [[cuts[1]], [cuts[0]]])
    longer = SilenceAugmenter(SilenceConfig(alone_share=1.0), LogMelConfig()).add_rows(
        batch, silence=4
    )
    assert longer.languages.tolist() == [1, 0, 1, 0]
    step = step_of(shop, longer)
    losses, _ = sum_losses(TASKS, step)
    same, _ = sum_losses(TASKS, step_of(shop, batch))
    torch.testing.assert_close(losses["loss_language"], same["loss_language"])


def test_gradients_of_translating_come_from_rows_with_a_translation_only(shop, cuts):
    step = step_of(shop, batch_of(shop, [[one] for one in cuts]))
    step.encoding.encoded.retain_grad()
    sum_losses(TASKS, step)[0]["loss_translate"].backward()
    moved = step.encoding.encoded.grad.abs().sum(dim=(1, 2)) > 0
    assert moved.tolist() == [True, False, True, False]
    tags = step.model.decoder.tags.weight.grad.abs().sum(dim=1) > 0
    learned = [
        name for name, one in zip(step.model.decoder.names, tags.tolist(), strict=True) if one
    ]
    assert learned == ["translate:en", "translate:fr"]


def test_gradients_of_recognition_go_to_the_tags_of_the_languages(shop, cuts):
    step = step_of(shop, batch_of(shop, [[one] for one in cuts[:2]]))
    losses, _ = sum_losses(TASKS, step)
    losses["loss_attention"].backward(retain_graph=True)
    tags = step.model.decoder.tags.weight
    assert step.model.decoder.names == ("asr", "asr:de", "asr:en", "translate:en", "translate:fr")
    assert (tags.grad.abs().sum(dim=1) > 0).tolist() == [False, True, True, False, False]
    tags.grad = None
    losses["loss_language"].backward()
    assert (tags.grad.abs().sum(dim=1) > 0).tolist() == [True, True, True, False, False]


def test_a_batch_without_translations_gives_no_loss_and_every_gradient(shop, cuts):
    step = step_of(shop, batch_of(shop, [[cuts[1]], [cuts[3]]]))
    given = TASKS.translate.losses(step, {})
    assert [given.losses["loss_translate"].item(), given.total.item()] == [0.0, 0.0]
    assert given.counts["loss_translate"] == 0
    given.total.backward()
    assert all(one.grad is not None for one in step.model.decoder.parameters())
    assert TASKS.translate.measure(step) == {}


def test_one_row_more_and_padding_change_no_loss_of_the_others(shop, cuts):
    """Of the languages and translations: padded frames, padded tokens, longer neighbours."""
    alone = batch_of(shop, [[cuts[0]]])
    long = batch_of(shop, [[cuts[0]], [cuts[1], cuts[3], cuts[3]]])
    found = [
        sum_losses(TASKS, step_of(shop, batch))[0]["loss_translate"] for batch in (alone, long)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    logits = [
        step_of(shop, batch).model.language_logits(step_of(shop, batch).encoding)[0]
        for batch in (alone, long)
    ]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_scores_of_translating_count_tokens_and_the_end(shop, cuts):
    step = step_of(shop, batch_of(shop, [[one] for one in cuts]))
    ((wrong, total),) = TASKS.translate.measure(step).values()
    assert total == len("go now") + len("a word") + len("home") + 3
    assert 0 < wrong <= total
    measured = TASKS.asr.measure(step)
    assert (
        measured["language_errors"][1] == 2
    )  # "de_AT" is none of the languages, and one says nothing


def test_without_the_settings_tags_and_losses_are_what_they_were(shop, cuts):
    plain = TasksConfig(align=Align(weight=0.0))
    assert plain.tags_in(BOTH) == plain.tags == ("asr",)
    losses, _ = sum_losses(plain, step_of(shop, batch_of(shop, [[cuts[0]]], None), plain))
    assert losses.keys() == {"loss_ctc", "loss_attention", "loss"}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            lambda: Asr(language_tags=True, ctc_weight=1.0),
            "language_tags is true and ctc_weight 1.0",
        ),
        (lambda: Asr(language_weight=-1.0), "language_weight -1.0; expected no negative"),
        (lambda: Translate(weight=-1.0), "model.tasks.translate: weight is -1.0"),
        (lambda: Translate(label_smoothing=2.0), "label_smoothing 2.0"),
        (
            lambda: TasksConfig(
                asr=Asr(ctc_weight=1.0), translate=Translate(weight=1.0), text=Text(weight=1.0)
            ),
            "text has weight 1.0 and asks the decoder as asr does, which is not trained",
        ),
    ],
)
def test_settings_that_make_no_sense(tasks, message):
    with pytest.raises(ConfigError, match=message):
        tasks()


def test_a_new_language_begins_as_recognition_in_any(shop, tmp_path):
    tokenizer = Tokenizer.load(shop.tokenizer)
    sizes = {"vocab_size": tokenizer.vocab_size, "n_mels": 20}
    old = SpeechTextModel(CONFIG, **sizes, tags=("asr", "asr:de"))
    save_bundle(tmp_path / "old", old, tokenizer, LogMelConfig(n_mels=20))
    new = SpeechTextModel(CONFIG, **sizes, tags=("asr", "asr:de", "asr:en", "translate:en"))
    before = new.decoder.tags.weight.clone()
    take_weights(new, tmp_path / "old", tokenizer, LogMelConfig(n_mels=20), keep_cmvn=False)
    tags = load_file(tmp_path / "old" / "model.safetensors")["heads.decoder.tags.weight"]
    assert torch.equal(new.decoder.tags.weight, torch.stack([*tags, tags[0], before[3]]))


def config(shop, name: str, cuts: list, **tasks) -> Path:
    train, dev = shop.root / f"{name}-train.jsonl", shop.root / f"{name}-dev.jsonl"
    write_cuts(cuts, train)
    write_cuts(cuts[:2], dev)
    path = shop.config(name, train, dev)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["model"]["tasks"] = tasks
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return path


def test_from_manifests_to_a_bundle_that_knows_its_tags(shop, cuts, capsys):
    tasks = {"asr": {"language_tags": True}, "translate": {"weight": 1.0}}
    outcome = shop.fit(config(shop, "tagged", cuts, **tasks))
    assert outcome.code == 0, outcome.err
    assert "translations: 3, into en, fr" in outcome.err
    run = shop.root / "runs" / "tagged"
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    logged = {"train/loss_translate", "train/loss_language", "val/translation_errors"}
    assert logged <= set(header)
    bundle = load_bundle(run / "bundle")
    tags = ("asr", "asr:de", "asr:de-at", "asr:en", "translate:en", "translate:fr")
    assert bundle.model.decoder.names == tags
    plain = json.loads((run / "bundle" / "config.json").read_text())
    assert tuple(plain["tags"]) == tags
    weights = bundle.model.decoder.tags.weight
    assert weights.shape[0] == len(tags)


def test_losses_are_means_over_what_there_was_however_utterances_are_batched(shop, cuts):
    tasks = {"asr": {"language_tags": True}, "translate": {"weight": 1.0}}
    path = config(shop, "batched", cuts, **tasks)
    write_cuts([*cuts, cut(shop, "e", "a word home", "en")], shop.root / "batched-dev.jsonl")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    network = settings["model"]["network"] | {"dropout": 0.0}
    still = {"spec_augment": {"time_masks": 0, "freq_masks": 0}, "features": {"gain_db": 0.0}}
    settings["model"] |= {"network": network, "augmentation": still}
    settings["model"]["optimization"] |= {"learning_rate": 1e-12}
    found = []
    for name, seconds in (("one", 1.0), ("together", 10.0)):
        settings["data"]["batch_seconds"] = seconds
        settings["trainer"]["default_root_dir"] = str(shop.root / "runs" / f"batched-{name}")
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        assert shop.fit(path).code == 0
        series = read_metrics(shop.root / "runs" / f"batched-{name}" / "metrics.csv")
        found.append({key: [value for _, value in rows] for key, rows in series.items()})
    for stage in ("train", "val"):
        for loss in ("loss_translate", "loss_language"):
            one, together = (values[f"{stage}/{loss}"] for values in found)
            assert one == pytest.approx(together, rel=1e-3), (stage, loss)


def test_epochs_and_sets_without_translations_have_no_loss_of_them(shop, cuts):
    path = config(shop, "rare", [*cuts[:2], cuts[3]], translate={"weight": 1.0})
    write_cuts(cuts[1:2], shop.root / "rare-dev.jsonl")
    flags = ["--data.batch_seconds=1.0", "--trainer.limit_train_batches=1"]
    assert shop.fit(path, *flags, "--trainer.max_epochs=6").code == 0
    text = (shop.root / "runs" / "rare" / "metrics.csv").read_text()
    found = read_metrics(shop.root / "runs" / "rare" / "metrics.csv")
    assert 0 < len(found["train/loss_translate"]) < len(found["train/loss"]) == 6
    assert "nan" not in text
    assert "val/loss_translate" not in found
    assert "val/loss" in found


def test_tasks_that_find_nothing_in_the_manifests_are_refused(shop, cuts):
    b, d = cuts[1], cuts[3]
    for name, asked, message in (
        (
            "mute",
            {"asr": {"language_tags": True}},
            "none of the 2 utterances of data.train says its",
        ),
        (
            "plain",
            {"translate": {"weight": 1.0}},
            "none of the 2 utterances of data.train has a trans",
        ),
    ):
        outcome = shop.fit(
            config(shop, name, [d, b] if name == "plain" else [d, d_copy(shop)], **asked)
        )
        assert message in outcome.mistake


def d_copy(shop):
    return cut(shop, "d2")
