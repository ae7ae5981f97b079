#!/usr/bin/env bash
# One German voice: recognise and align it, and write the durations a TTS system trains on.
# A rerun goes on where this one stopped; manifests and training that are up to date are left alone.
#   recipes/kerstin/run.sh CORPUS_DIR [CONFIG [any "speechmm fit" setting ...]]
# Exit code 3: a command finished, and named what it left out or flagged.
set -euo pipefail
corpus=$(realpath "${1:?usage: run.sh CORPUS_DIR [CONFIG [--any.key VALUE ...]]}")
cd "$(dirname "$0")/../.."
config=${2:-recipes/kerstin/small.yaml}
name=$(basename "$config" .yaml)
data=recipes/kerstin/data
run=recipes/kerstin/exp/$name
results=$run/RESULTS.md
[[ $config != recipes/kerstin/small.yaml ]] || results=recipes/kerstin/RESULTS.md
source recipes/gpu.sh
needs_start "$name" "${@:3}"
gpu_settings "$config"
pieces=(--kind char)
tokenizer=tokenizer.json
search=(--beam 4 --ctc-weight 0.3 --length-bonus 0.5)
by_config "$name" "${@:3}"
[[ $name != whisper ]] || pieces+=(--normalizer verbatim) # Whisper writes as one reads

speechmm prepare kerstin "$corpus" "$data" || [[ $? == 3 ]]
((${#goes_on[@]})) || speechmm tokenizer "$data/train.jsonl.gz" "${pieces[@]}" --out "$data/$tokenizer"
speechmm fit --config "$config" "${gpu[@]}" "${goes_on[@]}" --trainer.default_root_dir "$run" \
  --ckpt_path last "${@:3}" || [[ $? == 3 ]]
speechmm transcribe "$data/test.jsonl.gz" --model "$run/bundle" "${search[@]}" \
  --format jsonl --out "$run/test.jsonl" || [[ $? == 3 ]]
for split in train dev test; do
  speechmm align "$data/$split.jsonl.gz" --model "$run/bundle" --format textgrid \
    --out "$run/textgrids/$split" || [[ $? == 3 ]]
  speechmm align "$data/$split.jsonl.gz" --model "$run/bundle" --format durations \
    --out "$run/durations/$split" || [[ $? == 3 ]]
done

# Without a reference: words cut out at their times and recognised, and the same with shifted times.
speechmm align "$data/test.jsonl.gz" --model "$run/bundle" --format jsonl \
  --out "$run/test-aligned.jsonl" || [[ $? == 3 ]]
speechmm check-alignment "$run/test-aligned.jsonl" "$data/test.jsonl.gz" --model "$run/bundle" \
  --out "$run/check.json" || [[ $? == 3 ]]
# Transcripts damaged on purpose: how many does "align" flag, and how many that are right? CTC tells.
[[ $name == whisper ]] ||
  speechmm check-flags "$data/test.jsonl.gz" --model "$run/bundle" --out "$run/flags.json" \
    --results "$results" --title "kerstin test, $name, damaged transcripts"
speechmm score "$run/test.jsonl" "$data/test.jsonl.gz" --out "$run/report" \
  --results "$results" --title "kerstin test, $name, beam ${search[1]}"
if [[ $name == tts ]]; then # the test sentences in the voice it learned
  speechmm synthesize "$data/test.jsonl.gz" --model "$run/bundle" --out "$run/spoken" --times "$run/spoken.jsonl" ||
    [[ $? == 3 ]]
  echo "spoken:    $run/spoken"
fi
echo "report:    $run/report/report.html"
echo "alignment: $run/textgrids"
echo "durations: $run/durations"
