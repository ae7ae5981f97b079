#!/usr/bin/env bash
# Spoken digits: recipes/fsdd/run.sh CORPUS_DIR [SPEAKER_LEFT_OUT|official [any "speechmm fit" setting ...]]
set -euo pipefail
corpus=$(realpath "${1:?usage: recipes/fsdd/run.sh CORPUS_DIR [SPEAKER|official [--any.key VALUE ...]]}")
test=${2:-official}
cd "$(dirname "$0")/../.."
data=recipes/fsdd/data/$test
run=recipes/fsdd/exp/tiny-$test
split=()
[[ $test == official ]] || split=(--leave-out "$test")
source recipes/gpu.sh
gpu_settings recipes/fsdd/tiny.yaml

speechmm prepare fsdd "$corpus" "$data" "${split[@]}"
speechmm tokenizer "$data/train.jsonl.gz" --kind char --out "$data/tokenizer.json"
speechmm fit --config recipes/fsdd/tiny.yaml "${gpu[@]}" --ckpt_path last --trainer.default_root_dir "$run" \
  --data.train "[$data/train.jsonl.gz]" --data.dev "[$data/dev.jsonl.gz]" \
  --data.tokenizer "$data/tokenizer.json" "${@:3}" ||
  [[ $? == 3 ]]
speechmm transcribe "$data/test.jsonl.gz" --model "$run/bundle" --beam 4 \
  --format jsonl --out "$run/test.jsonl" || [[ $? == 3 ]]
speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" \
  --results recipes/fsdd/RESULTS.md --title "fsdd, test on $test"
