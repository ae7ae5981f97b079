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
needs_start "$name" "${@:3}"
gpu_settings "$config"
pieces=(--kind char)
tokenizer=tokenizer.json
search=(--beam 10 --ctc-weight 0.3 --length-bonus 0.5)
by_config "$name" "${@:3}"
ways=(joint ctc)
[[ $name != whisper ]] || ways=(decoder) # it has no CTC

speechmm prepare an4 "$corpus" "$data"
((${#goes_on[@]})) || speechmm tokenizer "$data/train.jsonl.gz" "${pieces[@]}" --out "$data/$tokenizer"
speechmm fit --config "$config" "${gpu[@]}" "${goes_on[@]}" --trainer.default_root_dir "$run" \
  --ckpt_path last "${@:3}" || [[ $? == 3 ]]
for split in dev test; do
  title="an4, $name, ${split/dev/train_dev}"
  for way in "${ways[@]}"; do
    flags=("${search[@]}")
    [[ $way != ctc ]] || flags=(--decoder ctc)
    speechmm transcribe "$data/$split.jsonl.gz" --model "$run/bundle" "${flags[@]}" \
      --format jsonl --out "$run/$split-$way.jsonl" || [[ $? == 3 ]]
    speechmm score "$run/$split-$way.jsonl" "$data/$split.jsonl.gz" --run "$run" \
      --vocabulary "$data/train.jsonl.gz" --out "$run/report-$split-$way" \
      --results recipes/an4/RESULTS.md --title "$title, $way"
  done
  if [[ ${#ways[@]} == 2 ]]; then
    speechmm compare "$run/report-$split-joint" "$run/report-$split-ctc" \
      --results recipes/an4/RESULTS.md --title "$title, searches compared"
  fi
done
speechmm align "$data/test.jsonl.gz" --model "$run/bundle" --format textgrid \
  --out "$run/textgrids" || [[ $? == 3 ]]
