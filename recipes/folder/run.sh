#!/usr/bin/env bash
# Recordings of your own with their texts: train on them, transcribe and align the held-out ones.
# A rerun goes on where this one stopped; manifests and training that are up to date are left alone.
#   recipes/folder/run.sh ROOT [CONFIG [any "speechmm fit" setting ...]]
# Exit code 3: a command finished, and named what it left out or flagged.
set -euo pipefail
corpus=$(realpath "${1:?usage: run.sh ROOT [CONFIG [--any.key VALUE ...]]}")
cd "$(dirname "$0")/../.."
recipe=${RECIPE:-recipes/folder}  # recipes/kaldi/run.sh sets it
kind=folder
[[ $recipe != recipes/kaldi ]] || kind=kaldi
config=${2:-$recipe/small.yaml}
name=$(basename "$config" .yaml)
data=$recipe/data
run=$recipe/exp/$name
source recipes/gpu.sh
needs_start "$name" "${@:3}"
gpu_settings "$config"
pieces=(--kind char)
tokenizer=tokenizer.json
search=(--beam 4 --ctc-weight 0.3 --length-bonus 0.5)
by_config "$name" "${@:3}"

speechmm prepare "$kind" "$corpus" "$data" || [[ $? == 3 ]]
((${#goes_on[@]})) || speechmm tokenizer "$data/train.jsonl.gz" "${pieces[@]}" --out "$data/$tokenizer"
speechmm fit --config "$config" "${gpu[@]}" "${goes_on[@]}" --trainer.default_root_dir "$run" \
  --ckpt_path last "${@:3}" || [[ $? == 3 ]]
speechmm transcribe "$data/test.jsonl.gz" --model "$run/bundle" "${search[@]}" \
  --format jsonl --out "$run/test.jsonl" || [[ $? == 3 ]]
speechmm align "$data/test.jsonl.gz" --model "$run/bundle" --format jsonl \
  --out "$run/test-aligned.jsonl" || [[ $? == 3 ]]
speechmm align "$data/test.jsonl.gz" --model "$run/bundle" --format textgrid \
  --out "$run/textgrids" || [[ $? == 3 ]]

speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" \
  --results "$run/RESULTS.md" --title "$kind test, $name, beam ${search[1]}"
echo "report:    $run/report/report.html"
echo "alignment: $run/textgrids"
