"""`prepare folder` with languages and translations, and the manifests that hold them."""

import json
import logging

import pytest

from speechmm.cli.main import main
from speechmm.data.corpora import folder
from speechmm.data.manifest import cut_language, cut_translations, read_cuts, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError, ManifestError


@pytest.fixture
def corpus(tmp_path, record):
    """``corpus(*lines)`` has recordings a, b, c and a table of these lines."""
    for name in "abc":
        record(tmp_path / "in" / f"{name}.wav")

    def make(*lines, name="metadata.csv"):
        (tmp_path / "in" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / "in"

    return make


def prepare(root, **options):
    """Language and translations of each cut by its id, and what was left out."""
    report = SkipReport()
    splits = folder.prepare(root, report, dev=0.0, test=0.0, **options)
    found = {cut.id: cut for cuts in splits.values() for cut in cuts}
    return {id: (cut_language(cut), cut_translations(cut)) for id, cut in found.items()}, report


def test_columns_of_languages_and_translations_are_guessed(corpus):
    root = corpus(
        "path,sentence,locale,translation,target_lang",
        'a.wav,guten Tag,de_DE," good   day, sir",EN',
        "b.wav,hello,en,,en",
        "c.wav,hallo,,hi,en",
    )
    found, report = prepare(root)
    assert found == {
        "a": ("de-de", {"en": "good day, sir"}),
        "b": ("en", {}),
        "c": ("", {"en": "hi"}),
    }
    assert not report.items


def test_columns_named_after_languages(corpus):
    root = corpus(
        "id\ttext\ttranslation_en\tTranslation-pt-BR\ttranslation_id",
        "a\tguten Tag\tgood day\tbom dia\t17",
        name="metadata.tsv",
    )
    assert prepare(root, language="de")[0] == {"a": ("de", {"en": "good day", "pt-br": "bom dia"})}


def test_columns_that_are_named(corpus):
    root = corpus("file|Deutsch|Englisch|text|Sprache", "a|x|good day|guten Tag|de")
    found, _ = prepare(
        root,
        language_column="Sprache",
        translation_column="englisch",
        translation_language="en",
    )
    assert found == {"a": ("de", {"en": "good day"})}
    with pytest.raises(ConfigError, match=r"found 'English'; expected one of the columns of .*Deu"):
        prepare(root, translation_column="English", translation_language="en")


def test_a_named_column_may_say_the_language_itself(corpus):
    root = corpus("id,text,translation_en", "a,guten Tag,good day")
    found, _ = prepare(root, translation_column="translation_en")
    assert found == {"a": ("", {"en": "good day"})}


def test_translations_without_a_language(corpus, caplog):
    root = corpus("id,text,translation", "a,guten Tag,good day")
    with caplog.at_level(logging.WARNING):
        assert prepare(root)[0] == {"a": ("", {})}
    assert "nothing says which language" in caplog.text
    assert prepare(root, translation_language="en")[0] == {"a": ("", {"en": "good day"})}
    with pytest.raises(ConfigError, match="nothing says which language its translations are in"):
        prepare(root, translation_column="translation")


def test_rows_whose_translation_has_no_possible_language_are_named(corpus):
    root = corpus(
        "id,text,translation,target_language",
        "a,guten Tag,good day,en",
        "b,hallo,hello,?",
        "c,ja,yes,",
    )
    found, report = prepare(root)
    assert list(found) == ["a"]
    assert [name for name, _ in report.items] == ["b", "c"]
    assert "line 3: found '?' as the language of its translation" in report.items[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"translation_language": "en"}, "no table has a column of translations"),
        ({"translation_language": "1"}, "--translation-language: found '1'; expected the code"),
        ({"language": " "}, "--language: found ' '; expected the code"),
    ],
)
def test_what_is_asked_for_and_not_there(corpus, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare(corpus("id,text", "a,guten Tag"), **options)


def test_flags_of_columns_need_a_table_with_names(corpus, tmp_path):
    with pytest.raises(ConfigError, match="has no names of columns in its first line"):
        prepare(corpus("a,guten Tag", "b,hallo"), translation_column="x", translation_language="en")
    (tmp_path / "in" / "metadata.csv").unlink()
    for name in "abc":
        (tmp_path / "in" / f"{name}.txt").write_text("hallo")
    with pytest.raises(ConfigError, match="a text file beside each recording and no table"):
        prepare(tmp_path / "in", translation_language="en")


def test_a_manifest_keeps_them_through_the_commands(corpus, tmp_path, capsys):
    root = corpus("id,text,language,translation_en", "a,tag,de,day", "b,Ö,de,no")
    argv = ["prepare", "folder", str(root), str(tmp_path / "out"), "--dev", "0", "--test", "0"]
    assert main(argv) == 0
    cuts = tmp_path / "out" / "train.jsonl.gz"
    assert [cut_translations(cut) for cut in read_cuts(cuts)] == [{"en": "day"}, {"en": "no"}]
    capsys.readouterr()
    assert main(["info", str(cuts), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["languages"], facts["translated_into"]) == (["de"], ["en"])
    out = tmp_path / "tok.json"
    for flags, letters in (([], set("tagödyno")), (["--no-translations"], set("tagö"))):
        assert main(["tokenizer", str(cuts), "--out", str(out), *flags]) == 0
        assert set(json.loads(out.read_text())["pieces"][6:]) == letters
    assert "2 texts and 2 translations" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["hello", {"en": 1}, {"en": ["hello"]}, ["hello"]])
def test_translations_of_a_wrong_shape_make_no_cut(corpus, tmp_path, wrong):
    prepared = folder.prepare(corpus("id,text", "a,tag"), SkipReport(), dev=0.0, test=0.0)
    write_cuts(prepared["train"], tmp_path / "cuts.jsonl")
    row = json.loads((tmp_path / "cuts.jsonl").read_text())
    row["supervisions"][0]["custom"] = {"translated_text": wrong}
    (tmp_path / "cuts.jsonl").write_text(json.dumps(row))
    with pytest.raises(ManifestError, match="not a valid cut"):
        read_cuts(tmp_path / "cuts.jsonl")


def test_other_custom_fields_stay_and_parts_that_lack_a_language_give_none(corpus, tmp_path):
    prepared = folder.prepare(corpus("id,text", "a,tag"), SkipReport(), dev=0.0, test=0.0)
    cut = prepared["train"][0]
    cut.supervisions[0].custom = {"note": 1, "translated_text": {"EN": "day", "fr": " "}}
    write_cuts([cut], tmp_path / "cuts.jsonl")
    (read,) = read_cuts(tmp_path / "cuts.jsonl")
    assert read.supervisions[0].custom["note"] == 1
    assert cut_translations(read) == {"en": "day"}
