"""Defines the errors a user can cause, and nothing else.

A message has four parts: where, what was found, what was expected, what to do. The command line
turns each of these into one line on stderr and exit status 2; any other exception is a bug.
"""

LONGEST_MESSAGE = 1500
"""Letters; of a longer one, which holds what a damaged file says, the middle is left out."""


class SpeechmmError(Exception):
    """Something the user gave cannot be used; the message says what and how to mend it."""

    def __str__(self) -> str:
        """The message, its middle left out where it is very long."""
        message = super().__str__()
        half = LONGEST_MESSAGE // 2 - 2
        long = len(message) > LONGEST_MESSAGE
        return f"{message[:half]}...{message[-half:]}" if long else message


class ConfigError(SpeechmmError):
    """A setting, a flag or a combination of them is wrong."""


class AudioError(SpeechmmError):
    """An audio file is missing, damaged, or not audio."""


class ManifestError(SpeechmmError):
    """A manifest, a table or another description of a corpus is wrong."""


class CheckpointError(SpeechmmError):
    """A bundle, a checkpoint or a tokenizer file is missing, damaged or of another version."""


class AlignmentError(SpeechmmError):
    """A text and its audio, or a file of alignments, do not fit together."""
