"""Prepares a training for a model that speaks: who speaks, what is read, how loud and high it is."""

from __future__ import annotations

import torch

from speechmm.audio.cmvn import CmvnAccumulator
from speechmm.data.spoken import TargetReader, read_speakers
from speechmm.errors import SpeechmmError
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.voice import Voice, VoiceConfig, frame_energy
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.mixing import all_manifests
from speechmm.training.tasks import TasksConfig, Tts

LEAST_BAND_SPREAD = 0.5
"""Of a mel band, nats: above what a recording can hold a band hardly moves, and its rare moves must not
outweigh all others."""
SAMPLE = 100
"""Utterances that statistics are taken from."""
LEAST_SPREAD = 0.01
"""Of pitch and energy, nats: so that a voice without any is not divided by nothing."""


def voice_config(tasks: TasksConfig, data: SpeechDataModule) -> VoiceConfig | None:
    """What the model is to speak, by the task's settings and the training manifests.

    Raises:
        ManifestError: A manifest cannot be read.
    """
    task = tasks.tts
    if not task.weight:
        return None
    manifests = all_manifests(data.train_paths, data.mix, synthetic=False)
    return VoiceConfig(
        mel=task.mel,
        speakers=read_speakers(manifests),
        token_layers=task.token_layers,
        mel_layers=task.mel_layers,
    )


def prepare_voice(network: SpeechTextModel, data: SpeechDataModule, task: Tts) -> None:
    """Lets the data module read targets, and measures them where there is a training set.

    Raises:
        ConfigError: The encoder takes audio only, or nothing of a sample can be read.
    """
    voice = network.voice
    if voice is None:
        return
    network.check_second_entrance("model.tasks.tts")
    data.targets = TargetReader(voice.config.mel, voice.config.speakers, task.share)
    sample = data.sample(SAMPLE)
    if not sample:
        return  # the statistics are in the checkpoint that is measured
    mels, prosody = CmvnAccumulator(), CmvnAccumulator()
    for cut in sample:
        try:
            read = data.targets.read(cut)
        except SpeechmmError:
            continue  # it is named when its batch comes
        mel, pitch, weight = read[:, :-2], read[:, -2], read[:, -1]
        mels.add(mel)
        loud = weight > 0
        prosody.add(torch.stack([pitch, frame_energy(mel)], dim=1)[loud])
    keep_statistics(voice, mels, prosody)


def keep_statistics(voice: Voice, mels: CmvnAccumulator, prosody: CmvnAccumulator) -> None:
    """Gives a voice its statistics; a corpus without a voiced frame has no pitch."""
    found = mels.stats()
    voice.mel_mean.copy_(found.mean)
    voice.mel_std.copy_(found.std.clamp(min=LEAST_BAND_SPREAD))
    if prosody.frames:
        known = prosody.stats()
        voice.prosody_mean.copy_(known.mean)
        voice.prosody_std.copy_(known.std.clamp(min=LEAST_SPREAD))
