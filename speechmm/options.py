"""Lists the choices and defaults that commands share with the code behind them; imports nothing.

A command's ``--help`` must not wait for PyTorch, so what both a flag and a module that needs PyTorch
or NumPy must agree on stands here. Choices whose owner imports neither stay there: decoders in
:mod:`speechmm.inference.recognition.options`, normalizers in :mod:`speechmm.text.normalize`,
tokenizer kinds in :mod:`speechmm.text.tokenizer`.
"""

MANIFEST_SUFFIXES = (".jsonl", ".jsonl.gz")
"""How the names of cuts manifests end."""
BATCH_SECONDS = 60.0
"""Audio per batch in seconds, padding included, of everything that runs a trained model on a CPU."""
GPU_BATCH_SECONDS = 600.0
"""The same on other devices; on a CUDA GPU so much for each ``GPU_GIGABYTES`` of its memory."""
GPU_GIGABYTES = 16
PRECISIONS = ("int8",)
"""Weights a model can be quantised to."""
ALIGNERS = ("head", "ctc")
"""What places the tokens of a text in time: the alignment head, or CTC; the first is the default."""
BOOTSTRAP_DRAWS = 2000
"""Draws for confidence intervals."""
EDIT_PENALTY = 6.0
"""Penalty of an edit of a text, nats: the audio must score better by more than that."""
ALIGNMENT_FORMATS = ("textgrid", "ctm", "srt", "vtt", "ass", "jsonl", "durations")
"""Files that alignments are written to."""
LINE_FORMATS = ("text", "jsonl", "ctm", "trn")
"""Of transcripts: written line by line into one file or to stdout."""
TRANSLATION_FORMATS = ("text", "jsonl", "trn")
"""Of translations, which have no times of words."""
TRANSCRIPT_FORMATS = (*LINE_FORMATS, "srt", "vtt", "textgrid")
"""Files that transcripts are written to; those without lines are files of alignments."""
UNIVERSAL = "universal"
"""In place of a bundle that a training starts from: the aligner that ships finds the words first."""
EACH = "each"
"""In place of a voice of espeak-ng: that of each utterance's own language."""
