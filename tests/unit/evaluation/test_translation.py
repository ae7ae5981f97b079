"""`score --task translate`: BLEU and chrF are sacrebleu's, their references those of a language."""

import json
import random
from pathlib import Path

import pytest
import sacrebleu

from speechmm.cli.main import main
from speechmm.errors import ConfigError, ManifestError
from speechmm.evaluation.report import add_translation, make_report
from speechmm.evaluation.results import wer_lines, wer_table
from speechmm.evaluation.scoring import score_files
from speechmm.evaluation.translated_texts import read_translations

SENTENCE = "The train to Rome leaves at half past seven on the third of May , doesn't it ?"
WORDS = SENTENCE.split()


def texts(count: int = 30) -> tuple[list[str], list[str]]:
    """References, and hypotheses with words left out, doubled and swapped."""
    draw = random.Random(0)
    references, hypotheses = [], []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randrange(1, 16))
        references.append(" ".join(words))
        kept = [word for word in words for _ in range(draw.choice((0, 1, 1, 1, 2)))]
        hypotheses.append(" ".join(kept))
    return references, hypotheses


def save(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cut(name: str, text: str, language: str = "de", speaker: str = "", **translations: str) -> str:
    custom = {"translated_text": translations} if translations else None
    row = {"id": name, "text": text, "language": language, "speaker": speaker, "custom": custom}
    return json.dumps(
        {"id": name, "type": "MonoCut", "start": 0, "duration": 1, "supervisions": [row]}
    )


@pytest.fixture
def manifest(tmp_path) -> Path:
    rows = [
        cut("a", "guten Tag", en="Good day!", fr="Bonjour"),
        cut("b", "danke", EN="thanks a lot"),
        cut("c", "hello", "en"),
    ]
    return save(tmp_path, "cuts.jsonl", rows)


def test_scores_are_those_of_sacrebleu(tmp_path):
    references, hypotheses = texts()
    ref, hyp = save(tmp_path, "ref.txt", references), save(tmp_path, "hyp.txt", hypotheses)
    scored = score_files(hyp, ref, "verbatim")
    report = make_report(scored, command="", meta={}, draws=200)
    add_translation(report, scored, draws=200)
    found = report["translation"]
    bleu = sacrebleu.corpus_bleu(hypotheses, [references])
    chrf = sacrebleu.corpus_chrf(hypotheses, [references])
    assert found["bleu"]["score"] == bleu.score
    assert found["chrf"]["score"] == chrf.score
    for one in found.values():
        low, high = one["ci95"]
        assert low < one["score"] < high
        assert high - low < 30
    version = sacrebleu.__version__
    assert found["bleu"]["signature"] == (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    )
    assert found["chrf"]["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no")


def test_texts_are_normalised_first_and_scripts_without_spaces_count_letters(tmp_path):
    ref, hyp = (
        save(tmp_path, "r.txt", ["Good day, sir!"]),
        save(tmp_path, "h.txt", ["good day sir"]),
    )
    scored = score_files(hyp, ref, "multilingual")
    report = make_report(scored, command="", meta={}, draws=10)
    add_translation(report, scored, draws=10)
    assert report["translation"]["chrf"]["score"] == 100.0
    ref, hyp = save(tmp_path, "r.txt", ["今天天气很好"]), save(tmp_path, "h.txt", ["今天天气不好"])
    scored = score_files(hyp, ref, "verbatim")
    add_translation(report, scored, draws=10)
    expected = sacrebleu.corpus_bleu(["今天天气不好"], [["今天天气很好"]], tokenize="char").score
    assert report["translation"]["bleu"]["score"] == expected > 0
    assert "tok:char" in report["translation"]["bleu"]["signature"]


def test_speakers_are_resampled_where_there_are_enough(tmp_path):
    references, hypotheses = texts(24)
    rows = [
        cut(f"u{n}", "x", speaker=f"s{n % 6}", en=one or "x") for n, one in enumerate(references)
    ]
    path = save(tmp_path, "cuts.jsonl", rows)
    lines = [json.dumps({"id": f"u{n}", "text": one}) for n, one in enumerate(hypotheses)]
    scored = score_files(save(tmp_path, "h.jsonl", lines), path, "verbatim", read=read_translations)
    report = make_report(scored, command="", meta={}, draws=100)
    add_translation(report, scored, draws=100)
    low, high = report["translation"]["bleu"]["ci95_speakers"]
    assert low < report["translation"]["bleu"]["score"] < high
    assert "by speaker" in wer_table(report)


def test_a_better_system_is_told_from_a_worse_one(tmp_path):
    references, hypotheses = texts()
    ref, worse = save(tmp_path, "r.txt", references), save(tmp_path, "w.txt", hypotheses)
    same = score_files(worse, ref, "verbatim")
    best = score_files(save(tmp_path, "b.txt", references), ref, "verbatim")
    report = make_report(best, command="", meta={}, draws=100)
    add_translation(report, best, same, draws=100)
    for name, one in report["translation_comparison"].items():
        other = sacrebleu.corpus_bleu if name == "bleu" else sacrebleu.corpus_chrf
        assert one["score"] == other(hypotheses, [references]).score
        assert one["difference"] == pytest.approx(100.0 - one["score"])
        assert 0 < one["ci95"][0] < one["difference"] < one["ci95"][1]
        assert one["probability_better"] == 1.0
    add_translation(report, same, same, draws=100)
    one = report["translation_comparison"]["bleu"]
    assert (one["difference"], one["ci95"], one["probability_better"]) == (0.0, [0.0, 0.0], 0.5)


def test_references_are_the_translations_into_a_language(manifest, tmp_path):
    found = read_translations(manifest, "EN")
    assert {id: one.text for id, one in found.by_id.items()} == {
        "a": "Good day!",
        "b": "thanks a lot",
    }
    assert {one.language for one in found.by_id.values()} == {"en"}
    one = save(tmp_path, "one.jsonl", [cut("a", "guten Tag", en="Good day!")])
    assert read_translations(one).by_id["a"].text == "Good day!"
    plain = save(tmp_path, "plain.txt", ["Good day!"])
    assert [one.text for one in read_translations(plain).by_id.values()] == ["Good day!"]


def test_languages_that_are_not_there_or_not_chosen(manifest, tmp_path):
    with pytest.raises(ConfigError, match="none is given; expected one of en, fr, into which"):
        read_translations(manifest)
    with pytest.raises(ConfigError, match="--target-language: found 'es'; expected one of en, fr"):
        read_translations(manifest, "es")
    with pytest.raises(ConfigError, match=r"plain.txt is no cuts manifest"):
        read_translations(save(tmp_path, "plain.txt", ["a"]), "en")
    untranslated = save(tmp_path, "none.jsonl", [cut("a", "guten Tag")])
    with pytest.raises(ManifestError, match="none of its 1 cuts has a translation"):
        read_translations(untranslated)
    wrong = cut("a", "tag").replace('"custom": null', '"custom": {"translated_text": ["x"]}')
    with pytest.raises(ManifestError, match="its translations are none"):
        read_translations(save(tmp_path, "wrong.jsonl", [wrong]))
    twice = save(tmp_path, "twice.jsonl", [cut("a", "tag", en="day")] * 2)
    with pytest.raises(ManifestError, match='id "a" is there twice'):
        read_translations(twice)


def test_from_the_command_line(manifest, tmp_path, capsys):
    rows = [{"id": "a", "text": "good day"}, {"id": "b", "text": "thanks lot"}]
    hyp = save(tmp_path, "hyp.jsonl", list(map(json.dumps, rows)))
    out = tmp_path / "report"
    argv = ["score", str(hyp), str(manifest)]
    flags = ["--task", "translate", "--target-language", "en", "--bootstrap-draws", "20"]
    results = ["--results", str(tmp_path / "RESULTS.md"), "--title", "Translation"]
    assert main([*argv, *flags, "--against", str(hyp), "--out", str(out), *results]) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    expected = sacrebleu.corpus_chrf(
        ["good day", "thanks lot"], [["good day", "thanks a lot"]]
    ).score
    assert report["translation"]["chrf"]["score"] == expected
    assert report["translation_comparison"]["chrf"]["difference"] == 0.0
    for text in (
        printed,
        (tmp_path / "RESULTS.md").read_text(),
        (out / "report.md").read_text(),
        (out / "report.html").read_text(),
    ):
        assert f"{expected:.2f}" in text
        assert report["translation"]["bleu"]["signature"] in text
    assert main([*argv, "--target-language", "en"]) == 2
    assert "--target-language: has no effect without --task translate" in capsys.readouterr().err


def test_word_errors_by_language(tmp_path, capsys):
    rows = [cut("a", "guten Tag"), cut("b", "hello there", "EN"), cut("c", "danke", "")]
    ref = save(tmp_path, "cuts.jsonl", rows)
    found = {"a": "guten", "b": "hello there", "c": "danke"}
    lines = [json.dumps({"id": id, "text": text}) for id, text in found.items()]
    hyp = save(tmp_path, "hyp.jsonl", lines)
    report = make_report(score_files(hyp, ref, "verbatim"), command="", meta={}, draws=20)
    by_language = {
        name: (row["value"], row["utterances"]) for name, row in report["by_language"].items()
    }
    assert by_language == {"de": (0.5, 1), "en": (0.0, 1)}
    assert any("WER by language: de 50.00 %" in line for line in wer_lines(report))
    assert main(["score", str(hyp), str(ref), "--out", str(tmp_path / "out")]) == 0
    assert "WER by language: de 50.00 % (" in capsys.readouterr().out
    assert "<td>de</td>" in (tmp_path / "out" / "report.html").read_text()
