"""Joins one encoder with heads for CTC, decoder and alignment: the joint speech-text model.

Tensors in, tensors out: no files, no Lightning, no command line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.errors import ConfigError
from speechmm.models.alignment_head import AlignmentHead
from speechmm.models.encoder import (
    ConvTransformerEncoder,
    Encoded,
    Encoder,
    HearsSilence,
    OwnScale,
    ReadsWaveforms,
    SecondEntrance,
)
from speechmm.models.forward_sum import gather_tokens
from speechmm.models.front_end import ConvFrontEnd, length_mask
from speechmm.models.kv_cache import DecoderCache
from speechmm.models.precision import at_least_float32
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.text_decoder import Decoded, Tag, TextDecoder
from speechmm.models.transformer import TransformerEncoder
from speechmm.models.transformer_decoder import TransformerDecoder
from speechmm.models.utterance_mean import frame_levels, utterance_mean
from speechmm.models.voice import Voice, VoiceConfig

HEADS = ("ctc", "decoder", "align")
"""What reads the encoder: texts by CTC, texts by the decoder, and alignments."""
TTS = "tts"
"""The head that speaks."""
ALL_HEADS = (*HEADS, TTS)
"""What a bundle holds of a model's heads; others are needed in training only."""
Waveforms = tuple[Float[Tensor, "batch samples"], Int[Tensor, " batch"]]
"""Padded waveforms at the model's rate, and how many samples of each are valid."""
Mask = Callable[[Tensor, Tensor], Tensor]
"""Masks vectors (batch, frames, width) of so many valid frames."""
TAGS = ("asr",)
"""Tasks of the decoder where nothing else is said: speech to the text of the same language."""


@dataclass
class SpeechEncoding:
    """What the encoder made of a batch of speech."""

    encoded: Float[Tensor, "batch enc_frames d_model"]
    enc_lengths: Int[Tensor, " batch"]
    features: Float[Tensor, "batch frames n_mels"]
    """Normalised log-mel, zero at padding."""
    lengths: Int[Tensor, " batch"]
    middle: Float[Tensor, "batch enc_frames d_model"]
    """From half-way up the encoder, not yet normed."""
    aligned: Float[Tensor, "batch frames align_vocab_size"] | None = None
    """What :meth:`SpeechTextModel.align_log_probs` says of it, kept by those who ask more than once."""
    heard_lengths: Int[Tensor, " batch"] | None = None
    """Valid frames with the silence behind them, which the decoder reads, too; None where there is none."""

    @property
    def mask(self) -> Bool[Tensor, "batch enc_frames"]:
        """True for the encoder frames of an utterance."""
        return length_mask(self.enc_lengths, self.encoded.shape[1])

    @property
    def heard_mask(self) -> Bool[Tensor, "batch enc_frames"]:
        """True for the encoder frames that the decoder reads."""
        heard = self.enc_lengths if self.heard_lengths is None else self.heard_lengths
        return length_mask(heard, self.encoded.shape[1])

    def select(self, rows: Int[Tensor, " kept"]) -> SpeechEncoding:
        """The encoding of some of the utterances."""
        return SpeechEncoding(
            self.encoded[rows],
            self.enc_lengths[rows],
            self.features[rows],
            self.lengths[rows],
            self.middle[rows],
            None if self.aligned is None else self.aligned[rows],
            None if self.heard_lengths is None else self.heard_lengths[rows],
        )


class SpeechTextModel(nn.Module):
    """Recognises speech and aligns text to it: heads on one encoder."""

    def __init__(
        self,
        config: SpeechTextConfig,
        *,
        vocab_size: int,
        n_mels: int,
        align_vocab_size: int | None = None,
        heads: Collection[str] = HEADS,
        tags: Sequence[str] = TAGS,
        encoder: Encoder | None = None,
        voice: VoiceConfig | None = None,
    ):
        """Random weights.

        Args:
            config: Dimensions.
            vocab_size: Tokens that recognition writes.
            n_mels: Mel bands.
            align_vocab_size: Tokens that alignment places; the same ones when not given.
            heads: Those of ``HEADS`` that the model has: what is not trained is not there.
            tags: Tasks of the decoder.
            encoder: An encoder to stand on; one of the config's dimensions when not given.
            voice: What it speaks, if it does.
        """
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.align_vocab_size = vocab_size if align_vocab_size is None else align_vocab_size
        self.n_mels = n_mels
        self.encoder: Encoder = make_encoder(config, n_mels) if encoder is None else encoder
        self.heads = nn.ModuleDict(
            {head: self._make_head(head, tags) for head in HEADS if head in heads}
        )
        if voice is not None:
            sizes = (self.encoder.width, self.align_vocab_size)
            self.heads[TTS] = Voice(voice, *sizes, config.dropout)
        self.cmvn_mean: Tensor
        self.cmvn_std: Tensor
        self.register_buffer("cmvn_mean", torch.zeros(n_mels))
        self.register_buffer("cmvn_std", torch.ones(n_mels))
        self._num_parameters = sum(parameter.numel() for parameter in self.parameters())

    def _make_head(self, head: str, tags: Sequence[str]) -> nn.Module:
        config, width = self.config, self.encoder.width
        if head == "ctc":
            return nn.Linear(width, self.vocab_size)
        if head == "decoder":
            stack = TransformerDecoder(
                d_model=width,
                heads=config.heads,
                ff_dim=config.ff_dim,
                layers=config.decoder_layers,
                dropout=config.dropout,
                positions=config.decoder_positions,
                activation=config.decoder_activation,
            )
            prompt = config.decoder_prompt
            return TextDecoder(stack, vocab_size=self.vocab_size, tags=tags, prompt=prompt)
        sizes = config.align_dim, self.subsampling, self.align_vocab_size
        return AlignmentHead(width, self.n_mels, *sizes)

    @property
    def subsampling(self) -> int:
        """Feature frames per encoder frame."""
        return self.encoder.subsampling

    @property
    def masked_subsampling(self) -> int:
        """Feature frames per frame of what a mask of ``encode_speech`` is given.

        Under layers of our own that is what the pretrained encoder below them makes.
        """
        lower: Encoder = getattr(self.encoder, "lower", self.encoder)
        return lower.subsampling

    @property
    def decoder(self) -> TextDecoder:
        """The head that writes texts by attention."""
        return cast(TextDecoder, self.heads["decoder"])

    @property
    def alignment_head(self) -> AlignmentHead:
        """The head that places tokens in 10 ms frames."""
        return cast(AlignmentHead, self.heads["align"])

    @property
    def voice(self) -> Voice | None:
        """The head that speaks, where there is one."""
        return cast(Voice, self.heads[TTS]) if TTS in self.heads else None

    def set_cmvn(self, mean: Float[Tensor, " n_mels"], std: Float[Tensor, " n_mels"]) -> None:
        """Sets the feature statistics that normalise every input; they travel with the weights."""
        self.cmvn_mean.copy_(mean)
        self.cmvn_std.copy_(std.clamp(min=1e-3))

    def normalise(
        self, features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames n_mels"]:
        """Zero mean, unit variance per mel band; with ``utterance_cmn``, of its speech. Zero at padding."""
        if isinstance(self.encoder, OwnScale):
            return self.encoder.scaled(features, lengths)
        normalised = (features - self.cmvn_mean) / self.cmvn_std
        keep = length_mask(lengths, features.shape[1])[:, :, None]
        normalised = normalised.masked_fill(~keep, 0.0)
        if self.config.utterance_cmn:
            share = self.config.cmn_quiet_share
            mean = utterance_mean(normalised, frame_levels(features), lengths, share)
            normalised = (normalised - mean).masked_fill(~keep, 0.0)
        return normalised

    @property
    def reads_waveforms(self) -> bool:
        """Whether the encoder reads the waveform, and not log-mel features."""
        return isinstance(self.encoder, ReadsWaveforms)

    def encode_speech(
        self,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
        waveforms: Waveforms | None = None,
    ) -> SpeechEncoding:
        """Log-mel (natural log, not normalised) to encoder vectors; an encoder of waveforms needs those."""
        clean = self.normalise(features, lengths)
        return self.encode_normalised(clean, lengths, waveforms=waveforms)

    def encode_normalised(
        self,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
        *,
        clean: Float[Tensor, "batch frames n_mels"] | None = None,
        waveforms: Waveforms | None = None,
        mask: Mask | None = None,
    ) -> SpeechEncoding:
        """The same from normalised features, where training puts its masks.

        Args:
            features: With masks, where the encoder reads features.
            lengths: Valid frames.
            clean: Without masks: what the alignment head is to see beside the encoder output.
            waveforms: For an encoder that reads those.
            mask: Masks its frames.
        """
        if isinstance(self.encoder, ReadsWaveforms):
            if waveforms is None:
                raise ConfigError(
                    f"{type(self.encoder).__name__}: found features alone; expected the waveforms, which "
                    "it reads. Give them, too."
                )
            samples, sample_lengths = waveforms
            encoded = self.encoder(samples[:, :, None], sample_lengths, mask)
        else:
            encoded = self.encoder(features, lengths)
        return self.encoding_of(encoded, features if clean is None else clean, lengths)

    def encoding_of(
        self,
        encoded: Encoded,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
    ) -> SpeechEncoding:
        """What the heads read, from what the encoder made.

        Args:
            encoded: Of the utterances.
            features: Normalised, without masks, for the alignment head.
            lengths: Valid frames of the features.
        """
        spoken, heard = encoded.lengths, None
        if isinstance(self.encoder, HearsSilence) and self.encoder.reads_silence:
            heard = encoded.lengths
            spoken = torch.minimum(heard, -(-lengths // self.subsampling))
        return SpeechEncoding(
            encoded.frames, spoken, features, lengths, encoded.middle, heard_lengths=heard
        )

    def check_second_entrance(self, wanted_by: str) -> None:
        """Raises a ``ConfigError`` where the encoder takes audio only."""
        if not isinstance(self.encoder, SecondEntrance):
            raise ConfigError(
                f"{wanted_by}: the encoder is a {type(self.encoder).__name__}, which takes audio only; "
                "expected one with encode_frames, behind whose front end text can enter. Switch the "
                "task off, or train an encoder of model.network."
            )

    def encode_frames(
        self,
        vectors: Float[Tensor, "batch enc_frames d_model"],
        lengths: Int[Tensor, " batch"],
    ) -> SpeechEncoding:
        """Vectors of another front end, such as stretched text, through the layers that encode speech.

        There are no features: CTC and the decoder can read it, the alignment head cannot.
        """
        assert isinstance(self.encoder, SecondEntrance)
        encoded = self.encoder.encode_frames(vectors, lengths)
        nothing = vectors.new_zeros(len(vectors), 0, self.n_mels)
        return SpeechEncoding(
            encoded.frames, encoded.lengths, nothing, torch.zeros_like(lengths), encoded.middle
        )

    def ctc_log_probs(
        self, encoding: SpeechEncoding, *, middle: bool = False
    ) -> Float[Tensor, "batch enc_frames vocab_size"]:
        """Per encoder frame log-probabilities over the vocabulary; id 0 is the CTC blank.

        ``middle`` reads them half-way up the encoder, with the same weights. Source: Lee and
        Watanabe 2021, "Intermediate Loss Regularization for CTC-based Speech Recognition".
        """
        encoded = self.encoder.norm(encoding.middle) if middle else encoding.encoded
        logits: Tensor = self.heads["ctc"](encoded)
        return at_least_float32(logits).log_softmax(dim=-1)

    def align_log_probs(
        self, encoding: SpeechEncoding
    ) -> Float[Tensor, "batch frames align_vocab_size"]:
        """Log-probabilities of the aligned tokens at each 10 ms frame, label prior divided out."""
        if encoding.aligned is not None:
            return encoding.aligned
        head = self.alignment_head
        local, context = head(
            encoding.features, encoding.lengths, encoding.encoded, encoding.enc_lengths
        )
        posterior = context + local
        prior = head.label_prior.clamp(min=1e-8).log()
        out: Tensor = (posterior - self.config.align_prior * prior).log_softmax(dim=-1)
        return out

    def align_scores(
        self, encoding: SpeechEncoding, tokens: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch frames tokens"]:
        """The columns of :meth:`align_log_probs` that belong to the utterance's own tokens."""
        return gather_tokens(self.align_log_probs(encoding), tokens)

    def decode(
        self,
        tokens: Int[Tensor, "batch tokens"],
        encoding: SpeechEncoding,
        tag: Tag = "asr",
        *,
        with_attention: bool = False,
    ) -> Decoded:
        """Teacher forcing: logits of the tokens after the tag and each prefix (tokens + 1 rows)."""
        decoded: Decoded = self.decoder(
            tokens, encoding.encoded, encoding.heard_mask, tag, with_attention=with_attention
        )
        return decoded

    def language_logits(self, encoding: SpeechEncoding) -> Float[Tensor, "batch languages"]:
        """Which language is spoken: logits of those that recognition has learned, in their order."""
        return self.decoder.language_logits(encoding.encoded, encoding.heard_mask)

    def decode_init(self, encoding: SpeechEncoding) -> DecoderCache:
        """A fresh search state with cross-attention keys and values projected once."""
        return self.decoder.start(encoding.encoded, encoding.heard_mask)

    def decode_step(
        self, tokens: Int[Tensor, " rows"] | None, cache: DecoderCache, tag: Tag = "asr"
    ) -> Float[Tensor, "rows vocab_size"]:
        """Logits after one more token per hypothesis; the first call passes None (the tag)."""
        return self.decoder.step(tokens, cache, tag)

    def num_parameters(self) -> int:
        """Trainable parameters, also when some of them are kept in 8 bits now."""
        return self._num_parameters


def make_encoder(config: SpeechTextConfig, n_mels: int) -> ConvTransformerEncoder:
    """An encoder of the config's dimensions with random weights."""
    front_end = ConvFrontEnd(n_mels, config.front_channels, config.d_model, config.subsampling)
    stack = TransformerEncoder(
        d_model=config.d_model,
        heads=config.heads,
        ff_dim=config.ff_dim,
        layers=config.encoder_layers,
        conv_kernel=config.conv_kernel,
        dropout=config.dropout,
        middle_stride=config.middle_stride,
        attention_window=config.attention_window,
    )
    return ConvTransformerEncoder(front_end, stack)
