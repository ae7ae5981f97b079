"""The files of the project themselves: nothing of one machine in them, configs that parse."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from speechmm.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
ABLATIONS = sorted(ROOT.glob("recipes/**/ablation.yaml"))
CONFIGS = sorted(
    set(ROOT.glob("recipes/**/*.yaml"))
    - set(ABLATIONS)
    - set(ROOT.glob("recipes/universal/*.yaml"))  # settings of align --learn
)
MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work|home|Users|mnt|scratch)/(?!me/)\w")
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "download.pytorch" + ".org")
LONGEST_FILE = 400  # lines


def tracked_files() -> list[Path]:
    """Every file under version control, or every file at all where there is none (an archive)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return [path for path in files if path.is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_nothing_of_one_machine_is_in_the_tree():
    for path in tracked_files():
        found = MACHINE.search(text_of(path))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_no_package_registry_is_named():
    for path in tracked_files():
        text = text_of(path)
        for host in REGISTRIES:
            assert host not in text, f"{path.relative_to(ROOT)}: {host}"


def test_no_symlinks_and_no_python_in_recipes():
    for path in tracked_files():
        assert not path.is_symlink(), path
        assert not (path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "recipes"), path


def test_files_stay_one_thing():
    for path in (ROOT / "speechmm").rglob("*.py"):
        lines = text_of(path).count("\n")
        assert lines <= LONGEST_FILE, f"{path.relative_to(ROOT)}: {lines} lines"
        assert path.stem not in ("utils", "common", "helpers", "base"), path


def test_files_that_are_not_python_are_installed_too():
    settings = text_of(ROOT / "pyproject.toml")
    for path in tracked_files():
        if (ROOT / "speechmm") in path.parents and path.suffix != ".py":
            folder = path.parent.relative_to(ROOT / "speechmm")
            patterns = (f'"**/*{path.suffix}"', f'"{folder}/*"')
            assert any(one in settings for one in patterns), (
                f"package-data: {path.relative_to(ROOT)}"
            )


def test_there_are_configs():
    assert CONFIGS


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_parses(config: Path, capsys: pytest.CaptureFixture[str]):
    code = main(["fit", "--config", str(config), "--print_config"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "trainer:" in shown.out


@pytest.mark.parametrize("plan", ABLATIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_of_an_ablation_exists(plan: Path, capsys: pytest.CaptureFixture[str]):
    found = yaml.safe_load(plan.read_text("utf-8"))
    settings = dict(found["settings"])
    for variant in found["variants"].values():
        settings.update(variant or {})
    settings.pop("decode")
    flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    if "init_from" in settings:  # which another training makes
        flags = [
            word
            for flag in zip(flags[::2], flags[1::2], strict=True)
            if flag[0] != "--init_from"
            for word in flag
        ]
    code = main(["fit", "--config", str(ROOT / found["config"]), *flags, "--print_config"])
    assert code == 0, capsys.readouterr().err
