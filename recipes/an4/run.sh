#!/usr/bin/env bash
# CMU AN4: recipes/an4/run.sh CORPUS_DIR [CONFIG [any "speechmm fit" setting ...]]
set -euo pipefail
corpus=$(realpath "${1:?usage: recipes/an4/run.sh CORPUS_DIR [CONFIG [--any.key VALUE ...]]}")
cd "$(dirname "$0")/../.."
config=${2:-recipes/an4/small.yaml}
data=recipes/an4/data
name=$(basename "$config" .yaml)
run=recipes/an4/exp/$name
source recipes/gpu.sh
gpu_settings "$config"

speechmm prepare an4 "$corpus" "$data"
speechmm tokenizer "$data/train.jsonl.gz" --kind char --out "$data/tokenizer.json"
speechmm fit --config "$config" "${gpu[@]}" --ckpt_path last --trainer.default_root_dir "$run" "${@:3}" ||
  [[ $? == 3 ]]
for split in dev test; do
  for search in joint ctc; do
    flags=(--beam 10 --ctc-weight 0.3 --length-bonus 0.5)
    [[ $search == joint ]] || flags=(--decoder ctc)
    speechmm transcribe "$data/$split.jsonl.gz" --model "$run/bundle" "${flags[@]}" \
      --format jsonl --out "$run/$split-$search.jsonl"
    speechmm score "$run/$split-$search.jsonl" "$data/$split.jsonl.gz" --run "$run" \
      --vocabulary "$data/train.jsonl.gz" --out "$run/report-$split-$search" \
      --results recipes/an4/RESULTS.md --title "an4, $name, ${split/dev/train_dev}, $search"
  done
  speechmm compare "$run/report-$split-joint" "$run/report-$split-ctc" \
    --results recipes/an4/RESULTS.md --title "an4, $name, ${split/dev/train_dev}, searches compared"
done
speechmm align "$data/test.jsonl.gz" --model "$run/bundle" --format textgrid \
  --out "$run/textgrids" || [[ $? == 3 ]]
