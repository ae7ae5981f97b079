"""Normalizers: what each name does to a text."""

import builtins

import pytest

from speechmm.errors import ConfigError
from speechmm.text import normalize as module
from speechmm.text.normalize import NORMALIZERS, normalize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  World!", "hello world"),
        ("twenty-two twenty–two", "twenty two twenty two"),
        ("don't rock'n'roll 'quoted' dogs'", "don't rock'n'roll quoted dogs"),
        ("don’t don´t don`t donʼt", "don't don't don't don't"),
        ("ﬁne ＡＢＣ Straße", "fine abc strasse"),
        ("3.5 a/b (c) $d …", "3 5 a b c d"),
        ("cafe\u0301 caf\u00e9", "caf\u00e9 caf\u00e9"),
        ("soft\u00adhyphen \ufeffmark", "softhyphen mark"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),
        ("Привет, МИР", "привет мир"),
        ("\u0301 a", "a"),
        (" \t\n\u00a0", ""),
        ("—", ""),
    ],
)
def test_basic(text: str, expected: str) -> None:
    assert normalize(text, "basic") == expected


def test_verbatim_touches_white_space_only() -> None:
    assert normalize("  Hello,\t World! \n", "verbatim") == "Hello, World!"


def test_english_is_whispers() -> None:
    assert normalize("Don't pay Mr. Smith twenty-two dollars", "english") == (
        "do not pay mister smith $22"
    )


def test_english_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("whisper_normalizer"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    module._english_normalizer.cache_clear()
    with pytest.raises(ConfigError, match="pip install whisper-normalizer"):
        normalize("one", "english")


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(
        ConfigError, match='"bsic"; expected one of verbatim, basic, multilingual, turkish, english'
    ):
        normalize("one", "bsic")
    assert list(NORMALIZERS) == ["verbatim", "basic", "multilingual", "turkish", "english"]


def test_english_takes_numbers_of_any_length_and_brackets_without_an_end():
    digits = "9" * 5000
    assert normalize(f"Twenty-one {digits} cats", "english") in (
        f"21 {digits} cats",
        f"20 1 {digits} cats",
    )
    assert normalize("a (b) c (d <e [f", "english") == "a c d e f"
    assert normalize("(" * 200_000 + "Home" + "<" * 200_000, "english") == "home"
