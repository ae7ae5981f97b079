"""The program itself: dispatch, exit codes, and what a command's --help imports."""

import errno
import logging
import re
import subprocess
import sys
import types

import pytest

import speechmm
from speechmm.cli import main as program
from speechmm.cli.main import COMMANDS, main, transcribe_main
from speechmm.errors import AudioError

PLAIN_COMMANDS = [name for name in COMMANDS if name not in program.TRAINING_COMMANDS]
HEAVY = ("torch", "torchaudio", "lightning", "lhotse", "librosa", "matplotlib", "numba", "numpy")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Installs a function as the command ``info``."""

    def install(run) -> None:
        module = types.SimpleNamespace(run=run)
        monkeypatch.setitem(sys.modules, "speechmm.cli.info", module)

    return install


def imported_by(code: str) -> set[str]:
    """Top-level names in sys.modules after running ``code`` in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_help_lists_every_command_and_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in shown
        assert command.summary in shown
    for code in ("  0  ", "  2  ", "  3  "):
        assert code in shown


@pytest.mark.parametrize("arguments", [["--version"], ["info", "--version"]])
def test_version(arguments, capsys):
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"speechmm {speechmm.__version__}\n"


def test_an_unknown_command_is_answered_with_the_choices_and_the_closest(capsys):
    assert main(["trancsribe"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "'trancsribe' is not a command" in shown.err
    assert ", ".join(COMMANDS) in shown.err
    assert "Did you mean 'transcribe'?" in shown.err


def test_no_command_is_a_mistake_in_one_line(capsys):
    assert main([]) == 2
    assert "no command was given" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(name):
    code = f"from speechmm.cli.main import main; assert main([{name!r}, '--help']) == 0"
    assert not imported_by(code) & set(HEAVY)


@pytest.mark.parametrize("module", ["options", "inference.recognition.options", "text.normalize"])
def test_choices_and_defaults_are_known_without_pytorch(module):
    imported = imported_by(f"import speechmm.{module}")
    assert not imported & {*HEAVY, "jsonargparse"}


def test_import_speechmm_costs_nothing():
    assert not imported_by("import speechmm; speechmm.load") & {*HEAVY, "jsonargparse"}


@pytest.mark.parametrize("name", [*PLAIN_COMMANDS, "fit"])
def test_a_flag_that_does_not_exist_is_one_line_and_exit_code_2(name, capsys):
    assert main([name, "--no-such-flag"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert f"speechmm {name}: error: " in shown.err


@pytest.mark.parametrize("name", PLAIN_COMMANDS)
def test_every_argument_has_a_help_text(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # no line is wrapped
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: speechmm {name} " in shown
    assert not re.findall(r"^.*  \((?:type|default|required)\b.*", shown, re.MULTILINE)


def test_abbreviated_flags_are_refused(capsys):
    assert main(["info", "--js", "x"]) == 2
    assert "--js" in capsys.readouterr().err


def test_a_misspelt_flag_is_answered_with_the_closest(capsys):
    assert main(["info", "--jsno", "x"]) == 2
    assert "did you mean --json?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("--beam", "wide", "--beam: found 'wide'; expected PositiveInt"),
        ("--batch-seconds", "x", "--batch-seconds: found 'x'; expected PositiveFloat"),
        ("--beam", "0", "--beam: found '0'; expected v>0"),
        ("--format", "xml", "--format: found 'xml'; expected one of "),
        ("--batch-seconds", "-1", "--batch-seconds: found '-1'; expected v>0"),
        ("--ctc-weight", "2", "--ctc-weight: found '2'; expected v>=0 and v<=1"),
    ],
)
def test_a_wrong_value_says_where_what_and_what_was_expected(flag, value, complaint, capsys):
    assert main(["transcribe", "a.wav", "--model", "bundle", flag, value]) == 2
    shown = capsys.readouterr().err
    assert complaint in shown
    assert "Run 'speechmm transcribe --help'." in shown
    assert shown.count("\n") == 1


def test_arguments_and_exit_code_pass_through(command):
    seen: list[list[str]] = []

    def run(argv: list[str]) -> int:
        seen.append(argv)
        return 3

    command(run)
    assert main(["info", "a", "--b"]) == 3
    assert seen == [["a", "--b"]]


def raising(error: BaseException):
    def run(argv: list[str]) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (AudioError("a.wav: empty;\n expected audio."), 2, "a.wav: empty; expected audio."),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "out: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device."),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_are_one_line_and_an_exit_code(error, code, message, command, capsys):
    command(raising(error))
    assert main(["info"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("speechmm info: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_a_bug_stays_a_traceback(command):
    command(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["info"])


def test_a_reader_that_leaves_is_no_traceback():
    code = (
        "import sys, types; m = types.ModuleType('m'); "
        "m.run = lambda argv: [print('x' * 99) for _ in range(9999)] and 0; "
        "sys.modules['speechmm.cli.info'] = m; "
        "from speechmm.cli.main import main; sys.exit(main(['info']))"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{code}" | head -n 1; echo "${{PIPESTATUS[0]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == str(program.EXIT_BROKEN_PIPE)


def test_logs_go_to_stderr():
    code = (
        "import logging\nfrom speechmm.cli import main\nmain._configure_logging()\n"
        "logging.getLogger('speechmm.x').info('heard')\nlogging.getLogger('other').info('noise')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "heard\n"
    assert logging.getLogger("speechmm").level in (logging.NOTSET, logging.INFO)


def test_transcribe_is_its_own_program(capsys):
    assert transcribe_main(["--help"]) == 0
    assert "usage: speechmm transcribe" in capsys.readouterr().out
