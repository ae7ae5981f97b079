"""Prepares a training for several languages: which are spoken, and which are translated into."""

from __future__ import annotations

import logging

from speechmm.data.translated import Languages, read_languages
from speechmm.errors import ConfigError
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.mixing import all_manifests
from speechmm.training.tasks import TasksConfig

logger = logging.getLogger(__name__)

_MOST_NAMED = 20


def prepare_languages(tasks: TasksConfig, data: SpeechDataModule) -> Languages:
    """The languages of the training manifests that the tasks ask for; batches say them from now on.

    Raises:
        ConfigError: A task asks for languages, and the manifests name none.
        ManifestError: A manifest cannot be read.
    """
    spoken, translated = (
        bool(tasks.asr.weight and tasks.asr.language_tags),
        bool(tasks.translate.weight),
    )
    if not (spoken or translated):
        return Languages()
    found = read_languages(all_manifests(data.train_paths, data.mix), data.text_tokenizer)
    known = found.languages
    if spoken and not known.spoken:
        raise ConfigError(
            f"model.tasks.asr.language_tags is true and none of the {found.utterances} utterances of "
            "data.train says its language; expected them to. Prepare it with --language or a column of "
            "languages, or set language_tags to false."
        )
    if translated and not known.targets:
        raise ConfigError(
            f"model.tasks.translate.weight is {tasks.translate.weight} and none of the {found.utterances} "
            "utterances of data.train has a translation that the tokenizer knows anything of; expected "
            "some. Prepare it with a column of translations, or set the weight to 0."
        )
    if translated and data.is_rank_zero:
        logger.info("translations: %d, into %s", found.translated, ", ".join(known.targets))
        if found.unknown:
            logger.warning(
                "data.train: translations have characters that the tokenizer does not know and the model "
                "learns as one unknown sign: %s",
                " ".join(sorted(found.unknown)[:_MOST_NAMED]),
            )
    data.languages = Languages(known.spoken if spoken else (), known.targets if translated else ())
    return data.languages
