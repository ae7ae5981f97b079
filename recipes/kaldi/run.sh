#!/usr/bin/env bash
# Kaldi data folders: train on them, transcribe and align the test set, with the commands of
# recipes/folder/run.sh on this folder's settings, data and results.
#   recipes/kaldi/run.sh ROOT [CONFIG [any "speechmm fit" setting ...]]
set -euo pipefail
RECIPE=recipes/kaldi exec "$(dirname "$0")/../folder/run.sh" "$@"
