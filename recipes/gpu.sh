# shellcheck shell=bash disable=SC2034,SC2154  # the scripts that source this read what it sets, and set "config"
# Sourced by every run.sh: where there is a GPU, the settings beside a config that suit it.
#   gpu_settings recipes/an4/small.yaml
# sets the array "gpu" to (--config recipes/an4/small.gpu.yaml) if the machine has an NVIDIA GPU that
# CUDA_VISIBLE_DEVICES does not hide and there is such a file, and to () otherwise.
gpu_settings() {
  gpu=()
  local beside=${1%.yaml}.gpu.yaml
  if [[ -f $beside && ${CUDA_VISIBLE_DEVICES-all} != "" && ${CUDA_VISIBLE_DEVICES-all} != -1 ]] &&
    nvidia-smi --list-gpus 2> /dev/null | grep -q .; then
    gpu=(--config "$beside")
    echo "a GPU is here: $beside is used too" >&2
  fi
}

# Ends with exit code 2 where the config goes on from something that others trained, and no setting names it;
# or where it goes on with Whisper's decoder, and neither a setting nor "config", the file, names a language.
#   needs_start finetune --model.pretrained whisper-base
needs_start() {
  local given=" ${*:2} "
  given=${given// --init_from[ =]universal / } # which brings no weights
  if [[ ($1 == finetune || $1 == continue || $1 == whisper) && $given != *" --model.pretrained"* &&
    $given != *" --init_from"* ]]; then
    echo "$1.yaml: found no starting point; expected --model.pretrained FOLDER or --init_from BUNDLE" \
      "after it. Name one (docs/fine-tuning.md)." >&2
    exit 2
  fi
  if [[ $1 == whisper && $given == *" --model.pretrained"[=\ ]* && $given != *" --model.pretrained_decoder"* ]] &&
    ! grep -q "^  pretrained_decoder:" "$config"; then
    echo "$1.yaml: found no language of the decoder; expected --model.pretrained_decoder CODE after it. Name that" \
      "of the recordings, or one like it (docs/two-hours-of-my-language.md)." >&2
    exit 2
  fi
}

# Changes "pieces" (flags of speechmm tokenizer), "tokenizer" (its file), "search" (flags of speechmm
# transcribe) and "align" (flags of speechmm align) where the config wants others. Sets the array "goes_on"
# (flags of speechmm fit): where whisper.yaml goes on from a bundle, that has the tokenizer and the decoder,
# and no tokenizer is to be made.
#   by_config whisper --model.pretrained whisper-base
by_config() {
  local word name=
  goes_on=()
  case $1 in
    finetune) search=(--beam 10 --ctc-weight 1) ;; # it has no decoder
    scratch) # it writes letters, and learns no alignment head, for speed
      pieces=(--kind char)
      tokenizer=letters.json
      search=(--beam 10 --ctc-weight 0.5)
      align=(--aligner ctc)
      ;;
    whisper) # it has no CTC, and writes Whisper's pieces
      search=(--beam 4)
      tokenizer=pieces.json
      for word in "${@:2}"; do
        [[ $word != --*=* ]] || name=${word%%=*} word=${word#*=}
        case "$name $word" in
          "--init_from universal") ;;
          "--init_from "*) goes_on=(--model.pretrained_decoder null --data.tokenizer "$word/tokenizer.json") ;;
          "--model.pretrained "*) pieces=(--kind bpe --pieces-of "$word") ;;
        esac
        name=$word
      done
      ;;
  esac
}
