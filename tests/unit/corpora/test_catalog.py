"""A corpus is one parser file and one name: the flags of its command come from the file."""

import inspect
import pkgutil

import pytest

from speechmm.cli.main import main
from speechmm.data import corpora
from speechmm.data.corpora.catalog import CORPORA, find_corpus
from speechmm.errors import ConfigError

NO_PARSERS = {"catalog", "options", "kaldi_pipes"}


def test_every_parser_has_its_name_in_the_catalog():
    modules = {module.name for module in pkgutil.iter_modules(corpora.__path__)}
    assert set(CORPORA) == modules - NO_PARSERS


@pytest.mark.parametrize("name", CORPORA)
def test_options_are_the_arguments_of_prepare(name: str):
    corpus = find_corpus(name)
    parameters = inspect.signature(corpus.prepare).parameters.values()
    arguments = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert {option.name: option.default for option in corpus.options} == arguments
    assert corpus.about


@pytest.mark.parametrize("name", CORPORA)
def test_every_option_is_a_flag_with_its_help(name: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    assert main(["prepare", name, "--help"]) == 0
    shown = capsys.readouterr().out
    corpus = find_corpus(name)
    for option in corpus.options:
        assert f"  {option.flag} " in shown
        assert f"  {option.help} (" in shown
    assert (" ROOT OUT" in shown) == corpus.needs_root


def test_an_unknown_corpus_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="found 'nosuch'; expected one of synth, names, an4"):
        find_corpus("nosuch")
