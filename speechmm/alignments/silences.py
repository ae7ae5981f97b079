"""Lists the labels that aligners and corpora give to pauses and noises, which are no words."""

SILENCES = frozenset(
    [
        "",
        *("<sil>", "<eps>"),  # of this toolkit; OpenFst
        *("sil", "sp", "spn", "<spn>"),  # Montreal Forced Aligner, Prosodylab, Penn (P2FA)
        *("!sil", "nsn", "<nsn>", "[sil]"),  # Kaldi's lexicons, Charsiu
        *("silb", "sile", "!enter", "!exit", "sent-start", "sent-end"),  # Julius, HTK
        *("{sl}", "{ns}", "{br}", "{lg}", "{cg}"),  # Penn: silence, noise, breath, laughter, cough
        *("<p:>", "<p>", "<usb>", "<nib>"),  # BAS WebMAUS
        *("#", "_", "__"),  # SPPAS and WebMAUS; EasyAlign and hand-made tiers
        *("pau", "<pau>", "<pause>", "h#", "#h", "ssil", "brth"),  # Festival, TIMIT
        *("<s>", "</s>", "++noise++", "[noise]", "<noise>", "<vocnoise>"),  # Sphinx, Buckeye
    ]
)
"""In lower case; :func:`is_silence` heeds no case.

Sources: the manuals of the tools named beside them, which let pauses have these labels.
"""


def is_silence(label: str) -> bool:
    """Whether a label says that nobody speaks words there, whatever its case."""
    return label.strip().lower() in SILENCES
