"""speechmm: joint speech-text models that recognise and align speech."""

__version__ = "0.1.0"
