"""Intervals against theory, the matched-pair test against NIST's."""

import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from speechmm.evaluation.error_rate import score_texts, total_counts
from speechmm.evaluation.sclite_files import write_timed, write_trn
from speechmm.evaluation.significance import (
    bootstrap_rate,
    compare_systems,
    error_segments,
    matched_pair_p,
    resample_sums,
    sums_by_speaker,
)
from speechmm.evaluation.text_lines import UtteranceText

SCTK = Path("/usr/lib/sctk/bin")  # where Debian's package sctk puts its programs
needs_sctk = pytest.mark.skipif(
    not (SCTK / "sc_stats").is_file() and not shutil.which("sc_stats"),
    reason="NIST's sclite and sc_stats are not installed (Debian: sctk)",
)


def program(name: str) -> str:
    return str(SCTK / name) if (SCTK / name).is_file() else name


def test_interval_of_a_proportion_is_near_the_normal_one() -> None:
    errors = np.r_[np.ones(100), np.zeros(900)]
    interval = bootstrap_rate(errors.tolist(), [1.0] * 1000)
    assert interval is not None
    half = 1.96 * math.sqrt(0.1 * 0.9 / 1000)
    assert interval == pytest.approx((0.1 - half, 0.1 + half), abs=0.002)


def test_same_seed_same_interval_other_seed_another() -> None:
    errors, words = list(range(50)), [60] * 50
    assert bootstrap_rate(errors, words, seed=1) == bootstrap_rate(errors, words, seed=1)
    assert bootstrap_rate(errors, words, seed=1) != bootstrap_rate(errors, words, seed=2)


def test_no_units_no_interval() -> None:
    assert bootstrap_rate([], []) is None
    assert bootstrap_rate([1, 2], [0, 0]) is None


def test_resampled_rows_keep_their_number() -> None:
    sums = resample_sums(np.ones((7, 2)), draws=20)
    assert sums.shape == (20, 2)
    assert (sums == 7).all()


def test_matched_pairs_of_hand_made_differences() -> None:
    differences = [1, 0, 2, -1, 1, 1, 0, 1, 1, 2]
    assert matched_pair_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert matched_pair_p([]) == 1.0
    assert matched_pair_p([0, 0, 0]) == 1.0
    assert matched_pair_p([1]) == 1.0
    assert matched_pair_p([1] * 6) == pytest.approx(2 / 64)


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=60).filter(lambda x: len(set(x)) > 1))
def test_the_matched_pair_test_is_students(differences: list[int]) -> None:
    oracle = stats.ttest_1samp(differences, 0).pvalue
    assert matched_pair_p(differences) == pytest.approx(oracle, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("segments", [5, 10, 30])
def test_few_segments_do_not_find_differences_where_none_are(segments: int) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(2000, segments))
    assert np.mean([matched_pair_p(row.tolist()) < 0.05 for row in rows]) < 0.065


def test_intervals_by_speaker_are_wide_where_speakers_differ() -> None:
    """Ten speakers, one of whom the first system does not understand at all."""
    speakers = [f"s{number % 10}" for number in range(200)]
    references = [f"w{number} x{number}" for number in range(200)]
    first = [
        "" if speaker == "s3" else text for speaker, text in zip(speakers, references, strict=True)
    ]
    pair = (score_texts(references, first), score_texts(references, references))
    found = compare_systems(*pair, speakers=speakers)
    assert found.ci95 is not None and found.ci95_speakers is not None
    assert found.wer_difference == pytest.approx(0.1)
    assert 0.05 < found.ci95[0] < found.ci95[1] < 0.15
    assert found.ci95_speakers[0] == 0.0 and found.ci95_speakers[1] >= 0.3
    for unknown in ([], ["s1"] * 200, ["", *speakers[1:]]):
        assert compare_systems(*pair, speakers=unknown).ci95_speakers is None
    single = compare_systems(*pair, speakers=[f"s{number}" for number in range(200)])
    assert single.ci95_speakers == pytest.approx(single.ci95, abs=0.01)


def test_intervals_by_speaker_cover_what_they_should() -> None:
    """Error rates Beta(1, 9) of 20 speakers: utterances alone cover far less than 95 %."""
    draw = np.random.default_rng(1)
    covered = np.zeros(2)
    for _ in range(100):
        rates = draw.beta(1, 9, 20)
        errors = draw.binomial(10, np.repeat(rates, 13)).astype(float)
        rows = np.column_stack([errors, np.full(len(errors), 10.0)])
        by_speaker = sums_by_speaker(rows, [f"s{at // 13}" for at in range(len(errors))])
        assert by_speaker is not None and by_speaker.shape == (20, 2)
        for place, one in enumerate((rows, by_speaker)):
            interval = bootstrap_rate(*one.T.tolist(), draws=400)
            assert interval is not None
            covered[place] += interval[0] <= 0.1 <= interval[1]
    assert covered[0] < 75 and covered[1] >= 85


def test_two_right_words_of_both_end_a_segment() -> None:
    reference = "a b c d e f g h"
    first, second = score_texts([reference] * 2, ["x b c d e f g h", "a b c x e y g h"])
    assert error_segments(first, second) == [(1, 0), (0, 2)]


def test_insertion_between_two_right_words_does_not_end_one() -> None:
    first, second = score_texts(["a b c"] * 2, ["x b c", "a b y c"])
    assert error_segments(first, second) == [(1, 1)]


def test_a_better_system_is_found_better() -> None:
    references = [f"w{i} x{i} y{i} z{i}" for i in range(200)]
    good = [text if i % 10 else f"w{i}" for i, text in enumerate(references)]
    bad = [text if i % 3 else f"w{i}" for i, text in enumerate(references)]
    result = compare_systems(score_texts(references, good), score_texts(references, bad))
    assert result.wer_difference < 0
    assert result.ci95 is not None
    assert result.ci95[1] < 0
    assert result.p_value < 1e-4
    assert result.probability_better > 0.99


def noisy(words: list[str], rate: float, draw: random.Random) -> str:
    heard: list[str] = []
    for word in words:
        luck = draw.random()
        if luck < 0.8 * rate:
            heard.append(f"v{draw.randrange(500)}")
        elif luck < 0.9 * rate:
            continue
        elif luck < rate:
            heard += [word, f"v{draw.randrange(500)}"]
        else:
            heard.append(word)
    return " ".join(heard)


@pytest.fixture
def systems() -> tuple[list[str], list[str], list[str], list[str]]:
    draw = random.Random(1)
    texts = [[f"w{draw.randrange(500)}" for _ in range(draw.randint(0, 20))] for _ in range(2000)]
    references = [" ".join(words) for words in texts]
    ids = [f"s{i % 7}-u{i:04d}" for i in range(2000)]
    return (
        ids,
        references,
        [noisy(words, 0.1, draw) for words in texts],
        [noisy(words, 0.14, draw) for words in texts],
    )


@needs_sctk
def test_totals_are_those_of_sclite(
    systems: tuple[list[str], list[str], list[str], list[str]], tmp_path: Path
) -> None:
    ids, references, hypotheses, _ = systems
    references[3] = hypotheses[3] = ";; { a / b } @ (hm) é don't 50% ;; { b"
    references[4] += " (what"
    write_trn(dict(zip(ids, references, strict=True)), tmp_path / "ref.trn")
    write_trn(dict(zip(ids, hypotheses, strict=True)), tmp_path / "hyp.trn")
    out = run_sclite(tmp_path, "hyp.trn", "rsum")
    found = re.search(r"\| Sum\s*\|([\d\s|]+)\|", out)
    assert found is not None, out
    sentences, words, *_, errors, wrong = [int(n) for n in re.findall(r"\d+", found[1])]
    scored = score_texts(references, hypotheses)
    total = total_counts(scored)
    assert (sentences, words, errors) == (len(ids), total.reference_words, total.errors)
    assert wrong == sum(one.counts.errors > 0 for one in scored)


@needs_sctk
def test_timed_files_give_sclite_the_same_totals(
    systems: tuple[list[str], list[str], list[str], list[str]], tmp_path: Path
) -> None:
    ids, references, hypotheses, _ = systems
    draw = random.Random(2)
    texts = {}
    for at, id in enumerate(ids):
        words = len(hypotheses[at].split())
        edges = sorted(draw.uniform(5.0, 5.0 + 4.0) for _ in range(2 * words))
        times = tuple(zip(edges[::2], edges[1::2], strict=True)) if at % 3 else ()
        texts[id] = UtteranceText("", speaker="a b", start=5.0, duration=4.0, word_times=times)
    pair = (dict(zip(ids, column, strict=True)) for column in (references, hypotheses))
    assert write_timed(*pair, texts, tmp_path / "ref.stm", tmp_path / "hyp.ctm")
    command = [program("sclite"), "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-e", "utf-8"]
    out = subprocess.run(
        [*command, "-s", "-o", "rsum", "stdout"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    found = re.search(r"\| Sum\s*\|([\d\s|]+)\|", out)
    assert found is not None, out
    _, words, hits, subs, dels, ins, errors, _ = (int(n) for n in re.findall(r"\d+", found[1]))
    total = total_counts(score_texts(references, hypotheses))
    assert (words, errors) == (total.reference_words, total.errors)
    assert hits + subs + dels == words and subs + dels + ins == errors


def test_no_timed_files_without_durations(tmp_path: Path) -> None:
    texts = {"a": UtteranceText(""), "b": UtteranceText("", duration=1.0)}
    one = {"a": "x", "b": "y"}
    assert not write_timed(one, one, texts, tmp_path / "ref.stm", tmp_path / "hyp.ctm")
    assert not list(tmp_path.iterdir())


@needs_sctk
def test_matched_pairs_are_those_of_sc_stats(
    systems: tuple[list[str], list[str], list[str], list[str]], tmp_path: Path
) -> None:
    ids, references, first, second = systems
    sgml = ""
    for name, texts in (("ref", references), ("one", first), ("two", second)):
        write_trn(dict(zip(ids, texts, strict=True)), tmp_path / f"{name}.trn")
    for name in ("one", "two"):
        sgml += run_sclite(tmp_path, f"{name}.trn", "sgml")
    command = [program("sc_stats"), "-p", "-t", "mapsswe", "-v", "-n", "-"]
    out = subprocess.run(
        command, input=sgml, capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    found = re.search(r"# segs: (\d+)\).*\(Z Stat: ([-\d.]+)\)", out)
    assert found is not None, out
    ours = compare_systems(score_texts(references, first), score_texts(references, second))
    assert ours.segments == int(found[1])
    z = abs(float(found[2]))
    # NIST takes the normal distribution for that of Z.
    assert ours.p_value == pytest.approx(2 * stats.t.sf(z, ours.segments - 1), abs=0.001)


def run_sclite(folder: Path, hypothesis: str, report: str) -> str:
    command = [program("sclite"), "-r", "ref.trn", "trn", "-h", hypothesis, "trn"]
    command += [hypothesis.removesuffix(".trn"), "-i", "spu_id", "-e", "utf-8", "-s"]
    return subprocess.run(
        [*command, "-o", report, "stdout"], capture_output=True, text=True, check=True, cwd=folder
    ).stdout
