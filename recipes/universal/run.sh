#!/usr/bin/env bash
# The aligner that ships: phones of over a hundred languages. It learns from names that espeak-ng speaks in
# all of them, and from recordings in English and German (recipes/an4, recipes/kerstin, recipes/librispeech).
#   recipes/universal/run.sh AN4_DIR KERSTIN_DIR LIBRISPEECH_DIR
# Exit code 3 of a command: it finished, and named what it left out or flagged.
set -euo pipefail
an4=$(realpath "${1:?usage: run.sh AN4_DIR KERSTIN_DIR LIBRISPEECH_DIR}")
kerstin=$(realpath "${2:?usage: run.sh AN4_DIR KERSTIN_DIR LIBRISPEECH_DIR}")
librispeech=$(realpath "${3:?usage: run.sh AN4_DIR KERSTIN_DIR LIBRISPEECH_DIR}")
cd "$(dirname "$0")/../.."
data=recipes/universal/data
run=recipes/universal/exp
mkdir -p "$data" "$run"

speechmm prepare names "$data/names" || [[ $? == 3 ]]
speechmm prepare an4 "$an4" "$data/an4" || [[ $? == 3 ]]
speechmm prepare kerstin "$kerstin" "$data/kerstin" || [[ $? == 3 ]]
speechmm prepare librispeech "$librispeech" "$data/librispeech" || [[ $? == 3 ]]
lhotse combine "$data"/{names,an4,kerstin,librispeech}/train.jsonl.gz "$data/all.jsonl.gz"

speechmm align "$data/names/train.jsonl.gz" --learn --language each --learn-settings recipes/universal/first.yaml \
  --save "$run/first" --format jsonl --out "$run/first.jsonl" || [[ $? == 3 ]]
speechmm align "$data/all.jsonl.gz" --learn --model "$run/first" --learn-settings recipes/universal/all.yaml \
  --save "$run/aligner" --format jsonl --out "$run/all.jsonl" || [[ $? == 3 ]]

speechmm align "$data/names/dev.jsonl.gz" --model "$run/aligner" --format jsonl --out "$run/dev.jsonl" || [[ $? == 3 ]]
speechmm score-alignment "$run/dev.jsonl" "$data/names/dev.jsonl.gz" --out "$run/report"
echo "report:  $run/report"
echo "aligner: $run/aligner (it ships as speechmm/inference/alignment/universal)"
