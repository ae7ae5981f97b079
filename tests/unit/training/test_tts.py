"""Training a model that speaks, from recordings to sound: task, bundle, command, Python."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml

import speechmm
from speechmm.alignments import read_alignments
from speechmm.audio.cmvn import CmvnAccumulator
from speechmm.audio.griffin_lim import griffin_lim
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.cli.main import main
from speechmm.data.batch import Batch
from speechmm.data.dataset import SpeechDataset
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.data.plan import BatchPlan, Piece, PlannedUtterance
from speechmm.data.spoken import TargetReader
from speechmm.errors import AlignmentError, ConfigError
from speechmm.inference.api import Model
from speechmm.inference.synthesis.text_pieces import LONGEST_WORD, cut_text
from speechmm.models.bundle import load_bundle
from speechmm.models.speech_text import HEADS, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.voice import SPEECH_MEL, Voice, VoiceConfig
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.augmentation.silence import SilenceAugmenter, SilenceConfig
from speechmm.training.tasks import COUNT, Align, Match, Step, TasksConfig, Text, Tts, sum_losses
from speechmm.training.tasks.text import text_front_end
from speechmm.training.tasks.tts import LOSSES, token_frames
from speechmm.training.voice import keep_statistics

pytestmark = pytest.mark.usefixtures("no_picture")

MEL = LogMelConfig(n_mels=20, n_fft=512, win_length=512, hop_length=200)
SPEAKERS = ("anna", "bob")
FLAGS = {"weight": 1.0, "mel_layers": 1, "token_layers": 1, "mel": dataclasses.asdict(MEL)}
LOGGED = {f"{stage}/{name}" for stage in ("train", "val") for name in LOSSES}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def corpus(shop, name: str, size: int, speakers: tuple[str, ...] = SPEAKERS) -> Path:
    """Utterances of noise by several speakers in turn."""
    cuts = []
    for index in range(size):
        plain = shop.cut(
            f"{name}-{index}", 0.6 + 0.05 * index, ("go home", "a word now")[index % 2]
        )
        audio = plain.recording.sources[0].source
        text, speaker = plain.supervisions[0].text, speakers[index % len(speakers)]
        cuts.append(make_cut(id=plain.id, audio=audio, text=text, speaker=speaker))
    path = shop.root / f"{name}.jsonl"
    write_cuts(cuts, path)
    return path


def config(shop, name: str, train: Path, dev: Path, *, tts: dict[str, Any] | None = None,
           epochs: int = 2, **data: Any) -> Path:  # fmt: skip
    path = shop.config(name, train, dev, trainer={"max_epochs": epochs}, data=data)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["model"]["tasks"] = {"tts": FLAGS | (tts or {})}
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return path


def run_folder(shop, name: str) -> Path:
    return shop.root / "runs" / name


@pytest.fixture(scope="module")
def sets(shop) -> tuple[Path, Path]:
    return corpus(shop, "spoken-train", 8), corpus(shop, "spoken-dev", 3, (*SPEAKERS, "stranger"))


@pytest.fixture(scope="module")
def bundle(shop, sets, no_picture) -> Path:
    """Of two epochs, a few steps each, at several speeds."""
    outcome = shop.fit(config(shop, "through", *sets, speeds=[0.9, 1.0]))
    assert outcome.code == 0, outcome.err
    return run_folder(shop, "through") / "bundle"


def call(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


# training


def test_the_losses_are_logged_and_the_bundle_holds_the_voice(bundle: Path):
    with (bundle.parent / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {key for row in rows for key, value in row.items() if value}
    assert found >= LOGGED
    assert all(float(row[name]) >= 0 for row in rows for name in LOGGED if row[name])
    loaded = load_bundle(bundle)
    assert loaded.heads == {"ctc", "decoder", "align", "tts"}
    assert loaded.model.voice.config == VoiceConfig(
        mel=MEL, speakers=SPEAKERS, token_layers=1, mel_layers=1
    )
    assert json.loads((bundle / "config.json").read_text())["voice"]["speakers"] == list(SPEAKERS)
    assert "speechmm synthesize TEXT --model . --out SPEECH.wav --speaker anna" in (
        bundle / "README.md"
    ).read_text(encoding="utf-8")
    assert loaded.model.voice.mel_mean.abs().min() > 0.1  # measured
    assert loaded.model.voice.prosody_std.min() > 0
    code, out, _ = call("info", bundle, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["voice"]["speakers"], facts["voice"]["mel"]["n_mels"]) == (list(SPEAKERS), 20)


def test_a_checkpoint_is_measured_without_the_training_set_being_read_for_it(shop, sets, bundle):
    run = bundle.parent
    settings = config(shop, "through", *sets, speeds=[0.9, 1.0])
    measured = shop.fit(
        settings, "--ckpt_path", run / "checkpoints" / "last.ckpt", command="validate"
    )
    assert measured.code == 0, measured.err


def test_without_the_task_nothing_of_it_is_there(shop, sets):
    assert shop.fit(config(shop, "silent", *sets, tts={"weight": 0.0}, epochs=1)).code == 0
    silent = load_bundle(run_folder(shop, "silent") / "bundle")
    assert silent.model.voice is None
    assert "voice" not in json.loads((silent.path / "config.json").read_text())
    with pytest.raises(ConfigError, match="expected tts too, which speech synthesis reads"):
        speechmm.load(silent.path).synthesize("go home")


def test_after_ctrl_c_it_ends_as_one_that_ran_through(shop, sets, bundle, each_batch):
    def stop(epoch: int, index: int, ids: list[str]) -> None:
        if (epoch, index) == (1, 1):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    settings = config(shop, "stopped", *sets, speeds=[0.9, 1.0])
    each_batch(stop)
    assert shop.fit(settings).code == 130
    signal.signal(signal.SIGINT, before)
    each_batch(lambda *_: None)
    assert shop.fit(settings, "--ckpt_path", "last").code == 0
    stopped = run_folder(shop, "stopped")
    for file in ("metrics.csv", "bundle/model.safetensors"):
        assert (stopped / file).read_bytes() == (bundle.parent / file).read_bytes(), file


def test_a_new_voice_starts_from_those_of_a_bundle(shop, bundle):
    train, dev = corpus(shop, "new-train", 4, ("eve", "bob")), corpus(shop, "new-dev", 2, ("eve",))
    path = config(shop, "new", train, dev, epochs=1)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["model"]["tasks"] = {"tts": {"weight": 1.0}}  # log-mel and layers are the bundle's
    del settings["model"]["network"]
    settings["model"]["optimization"] = {
        "learning_rate": 1e-12,
        "ema_decay": 0.0,
        "weight_decay": 0.0,
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    outcome = shop.fit(path, "--init_from", bundle)
    assert outcome.code == 0, outcome.err
    old, new = (
        load_bundle(bundle).model.voice,
        load_bundle(run_folder(shop, "new") / "bundle").model.voice,
    )
    assert new.config == dataclasses.replace(old.config, speakers=("bob", "eve"))
    torch.testing.assert_close(new.speakers.weight[0], old.speakers.weight[1])
    torch.testing.assert_close(new.speakers.weight[1], old.speakers.weight.mean(dim=0))
    for name, value in old.state_dict().items():
        if not name.startswith(("speakers", "text.durations")):
            torch.testing.assert_close(new.state_dict()[name], value, msg=name)


def test_a_voice_is_learned_on_what_stays_as_it_is(shop, sets):
    assert shop.fit(config(shop, "heard", *sets, tts={"weight": 0.0}, epochs=1)).code == 0
    path = config(shop, "speaks-too", *sets, epochs=1)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    del settings["model"]["network"]
    settings["model"]["freeze"] = ["encoder", *(f"heads.{head}" for head in HEADS)]
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    heard = run_folder(shop, "heard") / "bundle"
    outcome = shop.fit(path, "--init_from", heard, "--model.optimization.ema_decay", "0.9")
    assert outcome.code == 0, outcome.err
    before = load_bundle(heard).model.state_dict()
    after = load_bundle(run_folder(shop, "speaks-too") / "bundle").model.state_dict()
    for name, value in before.items():  # buffers too: the label prior of the alignment head
        assert torch.equal(after[name], value), name
    new = set(after) - set(before)
    assert new and all(name.startswith("heads.tts.") for name in new)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_16_bits_train_as_float32_does(shop, sets, bundle, precision: str):
    path = config(shop, precision, *sets, speeds=[0.9, 1.0])
    assert shop.fit(path, f"--trainer.precision={precision}").code == 0

    def last(run: Path, name: str) -> float:
        with (run / "metrics.csv").open(newline="") as stream:
            return [float(row[name]) for row in csv.DictReader(stream) if row[name]][-1]

    for name in LOGGED:
        expected = last(bundle.parent, name)
        assert last(run_folder(shop, precision), name) == pytest.approx(expected, rel=0.03), name
    assert speechmm.load(run_folder(shop, precision) / "bundle").synthesize("go home").duration > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"weight": -1.0},
        {"square_weight": -0.1},
        {"prosody_weight": -1.0},
        {"after_steps": -1},
        {"mel_layers": 0},
        {"token_layers": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"model\.tasks\.tts: "):
        Tts(**settings)


def test_it_needs_the_alignment_head():
    with pytest.raises(ConfigError, match="expected align to be trained"):
        TasksConfig(tts=Tts(weight=1.0), align=Align(weight=0.0))


def test_bands_that_hardly_move_and_corpora_without_a_voice_get_usable_statistics():
    voice = Voice(VoiceConfig(mel=MEL), 16, 9, 0.0)
    mels, prosody = CmvnAccumulator(), CmvnAccumulator()
    frames = torch.randn(50, 20) * 3.0 - 8.0
    frames[:, 15:] = -23.0  # nothing is above half of the recording's rate
    mels.add(frames)
    prosody.add(torch.zeros(0, 2))
    keep_statistics(voice, mels, prosody)
    assert voice.mel_std[:15].min() > 1.0
    assert (voice.mel_std[15:] == 0.5).all()
    assert voice.prosody_mean.tolist() == [0.0, 0.0]
    assert voice.prosody_std.tolist() == [1.0, 1.0]


# targets and losses


def make_batch(shop, rows: list[list[PlannedUtterance]]) -> Batch:
    reader = TargetReader(MEL, SPEAKERS)
    dataset = SpeechDataset(Tokenizer.load(shop.tokenizer), LogMelConfig(), targets=reader)
    batch = dataset[BatchPlan(rows)]
    assert isinstance(batch, Batch)
    return batch


def test_targets_are_the_recordings_of_rows_that_are_one_utterance(shop):
    one, two, three = (
        shop.cut(name, seconds) for name, seconds in (("o", 0.7), ("p", 0.9), ("q", 0.8))
    )
    two.supervisions[0].speaker, three.supervisions[0].speaker = "bob", "nobody"
    piece = Piece(one, (0, 1), 0, 30)
    batch = make_batch(
        shop,
        [
            [PlannedUtterance(one), PlannedUtterance(two)],  # concatenated
            [PlannedUtterance(two.perturb_speed(1.1))],
            [PlannedUtterance(one, (piece, piece))],  # recombined
            [PlannedUtterance(three)],
        ],
    )
    spoken = batch.spoken
    assert spoken is not None
    assert spoken.rows.tolist() == [1, 3]
    assert spoken.speakers.tolist() == [1, -1]
    for place, cut in enumerate((two, three)):  # at the speed they were recorded with
        samples, _ = soundfile.read(cut.recording.sources[0].source, dtype="float32")
        mel = compute_log_mel(torch.from_numpy(samples), MEL)
        frames = int(spoken.lengths[place])
        assert frames == len(mel)
        assert torch.equal(spoken.mel[place, :frames], mel)
        assert not spoken.mel[place, frames:].any()
    doubled = batch.duplicated()
    assert len(doubled) == 8
    assert doubled.spoken is spoken
    moved = batch.to("meta")
    assert moved.spoken.mel.device.type == "meta"
    assert make_batch(shop, [[PlannedUtterance(one), PlannedUtterance(two)]]).spoken is None


@pytest.mark.parametrize("rate", [24_000, 22_050])
def test_the_usual_log_mel_of_a_recording_at_another_rate_and_back(tmp_path: Path, rate: int):
    """22.05 kHz and a hop of 256, whatever the recording has and recognition takes."""
    seconds = torch.arange(round(0.7 * rate)) / rate
    tones = (0.3 / k * torch.sin(2 * math.pi * 150 * k * seconds) for k in range(1, 9))
    soundfile.write(tmp_path / "a.wav", sum(tones).numpy(), rate)
    cut = make_cut(id="a", audio=tmp_path / "a.wav", text="go home", speaker="anna")
    targets = TargetReader(SPEECH_MEL, SPEAKERS)([[PlannedUtterance(cut)]], lambda _, read: read())
    assert targets is not None
    assert targets.mel.shape == (1, 1 + round(0.7 * 22_050) // 256, 80)
    voiced = targets.pitch_weight > 0
    assert voiced.float().mean() > 0.9
    assert targets.log_pitch[voiced].exp().median() == pytest.approx(150, rel=0.01)
    sound = griffin_lim(targets.mel[0], SPEECH_MEL)
    again = compute_log_mel(sound, SPEECH_MEL)
    loud = targets.mel[0, 5:-5] > -8
    assert (again - targets.mel[0])[5:-5][loud].abs().median() < 0.6


def test_a_share_of_the_rows_is_spoken_evenly_spread(shop):
    rows = [[PlannedUtterance(shop.cut(f"share-{index}", 0.3))] for index in range(5)]
    for share, expected in ((1.0, [0, 1, 2, 3, 4]), (0.5, [0, 2]), (0.1, [0]), (0.7, [0, 1, 2, 3])):
        found = TargetReader(MEL, SPEAKERS, share)(rows, lambda _, read: read())
        assert found is not None
        assert found.rows.tolist() == expected
        assert len(found.mel) == len(expected)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_no_share_and_more_than_all_are_refused(share: float):
    with pytest.raises(ConfigError, match="share is"):
        Tts(share=share)


def test_rows_with_added_pauses_are_no_targets(shop):
    batch = make_batch(shop, [[PlannedUtterance(shop.cut("r", 0.8))]])
    paused = SilenceAugmenter(SilenceConfig(pause_share=1.0), LogMelConfig()).add_pauses(batch)
    assert batch.spoken is not None
    assert paused.spoken is None


def test_durations_are_those_of_the_alignment_at_the_rate_of_the_log_mel():
    frames = token_frames(torch.tensor([[10.0, 0.0, 30.0], [4.0, 4.0, 0.0]]), torch.tensor([80, 4]))
    assert frames.tolist() == [[20.0, 0.0, 60.0], [2.0, 2.0, 0.0]]


def make_step(shop, batch: Batch, tasks: TasksConfig, *, number: int = 9) -> Step:
    torch.manual_seed(0)
    tokenizer = Tokenizer.load(shop.tokenizer)
    network = SpeechTextConfig(
        d_model=16, heads=2, ff_dim=16, encoder_layers=2, decoder_layers=1, front_channels=4, dropout=0.0
    )  # fmt: skip
    model = SpeechTextModel(
        network,
        vocab_size=tokenizer.vocab_size,
        n_mels=80,
        align_vocab_size=tokenizer.align_vocab_size,
        heads=tasks.heads,
        voice=VoiceConfig(mel=MEL, speakers=SPEAKERS, mel_layers=1),
    ).train()
    for task in tasks.active:
        model.heads.update(task.make_heads(model))
    encoding = model.encode_speech(batch.features, batch.feature_lengths)
    return Step(model=model, batch=batch, encoding=encoding, tokenizer=tokenizer,
                log_mel=LogMelConfig(), number=number, wanted=tasks.reads)  # fmt: skip


def test_the_voice_teaches_the_encoder_s_layers_and_nothing_that_hears(shop):
    batch = make_batch(
        shop, [[PlannedUtterance(shop.cut("s", 0.8))], [PlannedUtterance(shop.cut("t", 0.6))]]
    )
    tasks = TasksConfig(tts=Tts(weight=1.0))
    step = make_step(shop, batch, tasks)
    losses, _ = sum_losses(tasks, step)
    assert set(LOSSES) <= losses.keys()
    sum(losses[name] for name in LOSSES).backward()

    def moved(module: torch.nn.Module) -> bool:
        return any(one.grad is not None and one.grad.any() for one in module.parameters())

    assert {name for name, head in step.model.heads.items() if moved(head)} == {"tts"}
    assert moved(step.model.encoder.stack)
    assert not moved(step.model.encoder.front_end)


def test_before_its_first_step_and_without_targets_there_is_no_loss_but_every_gradient(shop):
    tasks = TasksConfig(tts=Tts(weight=1.0, after_steps=10))
    batch = make_batch(shop, [[PlannedUtterance(shop.cut("u", 0.8))]])
    for one, number in ((batch, 9), (dataclasses.replace(batch, spoken=None), 10)):
        step = make_step(shop, one, tasks, number=number)
        losses, _ = sum_losses(tasks, step)
        assert all(losses[name] == 0 for name in LOSSES if name in losses)
        losses["loss"].backward()
        grads = [weight.grad for weight in step.model.voice.parameters()]
        assert all(grad is not None and not grad.any() for grad in grads)


def test_a_process_without_targets_takes_part_in_every_sum_of_the_others(shop, monkeypatch):
    tasks = TasksConfig(tts=Tts(weight=1.0))
    batch = make_batch(shop, [[PlannedUtterance(shop.cut("w", 0.8))]])
    asked: list[torch.Tensor] = []

    def mean(found: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        asked.append(count)
        return found

    def total(values: torch.Tensor) -> torch.Tensor:
        asked.append(values)
        return values

    monkeypatch.setattr("speechmm.training.tasks.task.mean_over_processes", mean)
    monkeypatch.setattr("speechmm.training.tasks.task.all_sum", total)
    counts = []
    for one in (batch, dataclasses.replace(batch, spoken=None)):
        asked.clear()
        _, shared = sum_losses(tasks, make_step(shop, one, tasks))
        counts.append([tuple(one.shape) for one in asked])
        weighs = [bool(shared[COUNT + name]) for name in LOSSES]
        assert weighs == [one.spoken is not None] * len(LOSSES)
    assert counts[0] == counts[1]
    assert len(counts[0]) > len(LOSSES)


def test_tasks_of_text_share_its_front_end(shop):
    tasks = TasksConfig(tts=Tts(weight=1.0), match=Match(weight=1.0), text=Text(weight=1.0))
    step = make_step(shop, make_batch(shop, [[PlannedUtterance(shop.cut("v", 0.8))]]), tasks)
    assert "text_front_end" not in step.model.heads
    assert text_front_end(step.model) is step.model.voice.text
    losses, _ = sum_losses(tasks, step)
    assert losses["loss_match"] > 0


# speaking


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return speechmm.load(bundle)


TEXT = "Go home, now! A word (go) – home."


def test_times_add_up_to_the_audio(model):
    for rate in (1.0, 0.5, 3.0):
        speech = model.synthesize(TEXT, rate=rate)
        assert speech.sample_rate == 16000
        assert len(speech.samples) == (len(speech.log_mel) - 1) * MEL.hop_length
        assert speech.duration == pytest.approx(speech.alignment.duration)
        words, letters = speech.alignment.words, speech.alignment.units["char"]
        assert [one.label for one in words] == TEXT.split()
        assert "".join(one.label for one in letters) == "gohomenowawordgohome"
        for units in (words, letters):
            edges = [
                0.0,
                *(edge for one in units for edge in (one.start, one.end)),
                speech.duration,
            ]
            assert edges == sorted(edges)
        assert words[0].start > 0
        assert all(one.end > one.start for one in letters)
        dash = words[TEXT.split().index("–")]
        assert dash.start == dash.end
        assert speech.alignment.flags == ()


def test_the_same_text_sounds_the_same_and_another_speaker_or_rate_does_not(model, bundle):
    first = model.synthesize(TEXT)
    again = speechmm.load(bundle).synthesize(TEXT)
    assert torch.equal(first.samples, again.samples)
    assert first.samples.isfinite().all()
    assert first.samples.abs().max() <= 1
    assert torch.equal(first.samples, model.synthesize(TEXT, speaker="anna").samples)
    other = model.synthesize(TEXT, speaker="bob")
    assert not torch.equal(first.log_mel[:10], other.log_mel[:10])
    longer = model.synthesize(TEXT, rate=0.5)
    assert longer.duration > 1.3 * first.duration


def test_a_text_of_any_length_is_spoken_in_pieces(model, monkeypatch):
    monkeypatch.setattr("speechmm.inference.synthesis.synthesizer.PIECE_SECONDS", 0.5)
    pieces: list[int] = []
    from speechmm.inference.synthesis import synthesizer

    original = synthesizer.speak
    monkeypatch.setattr(
        synthesizer, "speak", lambda *a, **k: pieces.append(a[1].shape[1]) or original(*a, **k)
    )
    text = " ".join(["go home now"] * 20)
    speech = model.synthesize(text)
    assert len(pieces) > 3
    assert max(pieces) < 60
    assert [one.label for one in speech.alignment.words] == text.split()
    starts = [one.start for one in speech.alignment.words]
    assert starts == sorted(starts)
    assert speech.alignment.duration == pytest.approx(len(speech.samples) / 16000)


def test_texts_without_spaces_are_spoken_in_pieces_too(model, monkeypatch):
    from speechmm.inference.synthesis import synthesizer

    pieces: list[int] = []
    original = synthesizer.speak
    monkeypatch.setattr(
        synthesizer, "speak", lambda *a, **k: pieces.append(a[1].shape[1]) or original(*a, **k)
    )
    monkeypatch.setattr("speechmm.inference.synthesis.synthesizer.PIECE_SECONDS", 0.5)
    text = "gohomenow" * 200
    speech = model.synthesize(text)
    assert len(pieces) > 10
    assert max(pieces) < 200
    words = speech.alignment.words
    assert "".join(one.label for one in words) == text
    assert [one.start for one in words] == sorted(one.start for one in words)


def test_long_words_are_cut_after_pauses_and_not_before_marks():
    def cut(text: str) -> list[list[str]]:
        return list(cut_text(text, lambda words: [1.0] * len(words), 12.0))

    chinese = "今天天气很好，" * 20 + "我们去公园吧。" + "好！”" + "你" * 100
    found = cut(chinese)
    assert "".join(part for piece in found for part in piece) == chinese
    assert max(len(part) for piece in found for part in piece) <= LONGEST_WORD
    assert [piece[-1] for piece in found][:3] == ["今天天气很好，"] * 1 + [
        "我们去公园吧。",
        "好！”",
    ]
    marked = "ก้" * 90
    parts = [part for piece in cut(marked) for part in piece]
    assert "".join(parts) == marked
    assert not any(unicodedata.combining(part[0]) for part in parts)
    assert cut("a" * LONGEST_WORD) == [["a" * LONGEST_WORD]]
    assert cut("12.5 it's 3.") == [["12.5", "it's", "3."]]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Frau Dr. Meyer kommt am 3. Mai um 5 Uhr. Dann Schluss.", [10, 2]),
        ("„Komm her.“ Dann war Ruhe.", [2, 3]),
        ("«Viens.» Il rit.", [1, 2]),
        ("I met John F. Kennedy, i.e. him. Yes.", [7, 1]),
        ("Wait... Then go! Why? Because.", [1, 2, 1, 1]),
        ("It is 12.5. See example.com. Bye.", [3, 2, 1]),
        ("It cost 5 dollars. We paid 30 cents etc. and left.", [4, 7]),
        ("He was born in 1984. He died. No. Yes.", [5, 2, 1, 1]),
    ],
)
def test_sentences_end_where_they_end(text: str, sentences: list[int]):
    found = list(cut_text(text, lambda words: [0.1] * len(words), 60.0))
    assert [len(one) for one in found] == sentences


def test_what_cannot_be_spoken_is_refused_or_named(model):
    for nothing in ("", "...", "日本", " – "):
        with pytest.raises(AlignmentError, match="no word of its text is left"):
            model.synthesize(nothing)
    partly = model.synthesize("go 日本 home go1 now")
    assert [one.label for one in partly.alignment.words] == ["go", "日", "本", "home", "go1", "now"]
    assert partly.alignment.flags == ("unknown_characters: 1 日 本",)
    assert all(one.label != "⁇" for one in partly.alignment.units["char"])
    with pytest.raises(ConfigError, match=r"speaker: found 'x'; expected one of 'anna', 'bob'"):
        model.synthesize("go", speaker="x")
    for rate in (0.0, 0.2, 5.0, float("nan")):
        with pytest.raises(ConfigError, match="rate: found"):
            model.synthesize("go", rate=rate)
    with pytest.raises(AlignmentError, match="text: found int"):
        model.synthesize(3)


def test_one_text_into_one_file(bundle, model, tmp_path: Path):
    out, times = tmp_path / "a.wav", tmp_path / "a.TextGrid"
    assert call("synthesize", TEXT, "--model", bundle, "--out", out, "--times", times)[0] == 0
    info = soundfile.info(out)
    speech = model.synthesize(TEXT)
    assert (info.samplerate, info.frames, info.subtype) == (16000, len(speech.samples), "PCM_16")
    written, _ = soundfile.read(out, dtype="float32")
    torch.testing.assert_close(torch.from_numpy(written), speech.samples, atol=1 / 30000, rtol=0)
    (found,) = read_alignments(times)
    assert found.duration == pytest.approx(info.duration)
    assert [one.label for one in found.words if one.label] == [
        one.label for one in speech.alignment.words if one.end > one.start
    ]
    again = tmp_path / "b.wav"
    assert call("synthesize", TEXT, "--model", bundle, "--out", again)[0] == 0
    assert again.read_bytes() == out.read_bytes()
    saved = tmp_path / "c.wav"
    speech.save(saved)
    assert saved.read_bytes() == out.read_bytes()
    flac = tmp_path / "d.flac"
    assert call("synthesize", TEXT, "--model", bundle, "--out", flac)[0] == 0
    assert soundfile.info(flac).format == "FLAC"
    assert abs(soundfile.read(flac)[0] - soundfile.read(out)[0]).max() < 1e-4


def test_a_line_an_utterance_into_a_folder(bundle, tmp_path: Path):
    lines = tmp_path / "lines.txt"
    lines.write_text("go home\n\n...\na word now\n", encoding="utf-8")
    out, times = tmp_path / "out", tmp_path / "times.ctm"
    code, _, err = call("synthesize", lines, "--model", bundle, "--out", out, "--times", times)
    assert code == 3
    assert sorted(path.name for path in out.iterdir()) == ["0001.wav", "0004.wav"]
    assert "skipped: 0003: " in err
    assert "1 of 3 texts skipped" in err
    found = {one.id: one for one in read_alignments(times)}
    assert {name: len(one.words) for name, one in found.items()} == {"0001": 2, "0004": 3}
    code, _, err = call("synthesize", lines, "--model", bundle, "--out", tmp_path / "one.wav")
    assert code == 2
    assert "for 3 texts; expected a folder" in err
    code, _, err = call("synthesize", lines, "--model", bundle, "--out", out, "--strict")
    assert code == 2
    folder = tmp_path / "rows.jsonl"
    assert call("synthesize", lines, "--model", bundle, "--out", out, "--times", folder)[0] == 3
    rows = [json.loads(line) for line in folder.read_text(encoding="utf-8").splitlines()]
    assert [row["audio"] for row in rows] == [str(out / "0001.wav"), str(out / "0004.wav")]


def test_cuts_are_spoken_as_their_own_speakers_where_they_are_known(bundle, model, sets, tmp_path):
    code, _, err = call("synthesize", sets[1], "--model", bundle, "--out", tmp_path)
    assert code == 0, err
    for index, speaker in enumerate(("anna", "bob", "anna")):  # a stranger is spoken as the first
        text = ("go home", "a word now")[index % 2]
        samples, _ = soundfile.read(tmp_path / f"spoken-dev-{index}.wav", dtype="float32")
        expected = model.synthesize(text, speaker=speaker).samples
        torch.testing.assert_close(torch.from_numpy(samples), expected, atol=1 / 30000, rtol=0)
    assert (
        call("synthesize", sets[1], "--model", bundle, "--out", tmp_path, "--speaker", "bob")[0]
        == 0
    )
    samples, _ = soundfile.read(tmp_path / "spoken-dev-0.wav", dtype="float32")
    expected = model.synthesize("go home", speaker="bob").samples
    torch.testing.assert_close(torch.from_numpy(samples), expected, atol=1 / 30000, rtol=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.trn", "go home (one)\na word now (b/2)\n"),
        ("text", "one go home\nb/2 a word now\n"),
        ("a.jsonl", '{"id": "one", "text": "go home"}\n{"id": "b/2", "text": "a word now"}\n'),
    ],
)
def test_texts_with_ids_give_files_of_their_names(bundle, tmp_path, name: str, content: str):
    (tmp_path / name).write_text(content, encoding="utf-8")
    out, times = tmp_path / "out", tmp_path / "times.jsonl"
    code, _, err = call(
        "synthesize", tmp_path / name, "--model", bundle, "--out", out, "--times", times
    )
    assert code == 0, err
    assert sorted(path.name for path in out.iterdir()) == ["b%2F2.wav", "one.wav"]
    rows = {row["id"]: row for row in map(json.loads, times.read_text("utf-8").splitlines())}
    assert [one["label"] for one in rows["b/2"]["units"]["word"]] == ["a", "word", "now"]


def test_from_a_pipe_into_a_pipe(bundle, model, tmp_path: Path):
    times = tmp_path / "t.jsonl"
    found = subprocess.run(
        [sys.executable, "-m", "speechmm", "synthesize", "-", "--model", str(bundle), "--out", "-",
         "--times", str(times), "--threads", "1"],
        input=b"go home\r\n\n", capture_output=True, check=True,
    )  # fmt: skip
    samples, rate = soundfile.read(io.BytesIO(found.stdout), dtype="float32")
    expected = model.synthesize("go home").samples
    assert rate == 16000
    torch.testing.assert_close(torch.from_numpy(samples), expected, atol=1 / 30000, rtol=0)
    assert json.loads(times.read_text())["id"] == "0001"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.txt", "--out", "x.wav"], "missing.txt: no such file"),
        (["go", "--out", "x.wav", "--rate", "9"], "rate: found 9; expected 0.25 to 4"),
        (["go", "--out", "x.wav", "--rate", "-1"], "--rate: found"),
        (["go", "--out", "x.wav", "--speaker", "eve"], "found 'eve'; expected one of 'anna', 'bob'"),
        (["go", "--out", "x.wav", "--format", "ctm"], "has no effect without --times"),
        (["go", "--out", "-", "--times", "-"], "is --out already"),
        (["...", "--out", "x.wav"], "no word of its text is left"),
        (["   ", "--out", "x.wav"], "TEXT: is empty"),
        (["go", "--out", "x.wav", "--times", "x.wav"], "is --out already"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(bundle, tmp_path, monkeypatch, arguments: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("synthesize", *arguments, "--model", bundle)
    assert code == 2, err
    assert out == ""
    (line,) = err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
