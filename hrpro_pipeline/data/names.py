"""Names as people mean them: Unicode spellings, spaces and invisible characters make no difference."""

import unicodedata

_JOINER, _NON_JOINER = "\u200d", "\u200c"
_VIRAMA = 9  # Unicode's combining class of the signs that join consonants
_BLACK_FLAG = "\U0001f3f4"  # tags after it make the flags of regions
# Marks and letters that leave no mark: variation selectors, the grapheme joiner, fillers, the empty Braille pattern.
_BLANK = {*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0)), *"\u034f\u115f\u1160\u2800\u3164\uffa0"}


def class_name(text: str) -> str:
    """A class as it is known everywhere: composed, spaces single and inside only, nothing invisible.

    Joiners stay where they change what is seen: after a virama, between Arabic letters, between emoji.

    Examples:
        >>> class_name(" pour\\u00a0  water\\u200b")
        'pour water'
        >>> class_name("Cafe\\u0301") == class_name("Caf\\u00e9")
        True
    """
    return " ".join(visible(text).split())


def visible(text: str) -> str:
    """Text in composed form (NFC) without characters that cannot be seen; white space stays."""
    # Composed again at the end: what was taken out may have stood between a letter and its mark.
    composed = unicodedata.normalize("NFC", text)
    kept = [letter for place, letter in enumerate(composed) if not _is_invisible(composed, place)]
    return unicodedata.normalize("NFC", "".join(kept))


def _is_invisible(text: str, place: int) -> bool:
    letter = text[place]
    if letter in (_JOINER, _NON_JOINER):
        return not _joins(letter, text[:place].rstrip("\ufe0e\ufe0f")[-1:], text[place + 1 : place + 2])
    if letter.isspace() or ("\U000e0020" <= letter <= "\U000e007f" and _BLACK_FLAG in text):
        return False
    return letter in _BLANK or unicodedata.category(letter) in ("Cc", "Cf", "Cs")


def _joins(joiner: str, before: str, after: str) -> bool:
    """Whether a joiner between two characters changes how they look."""
    if not before or not after:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    if joiner == _NON_JOINER:
        return unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    return unicodedata.category(before) in ("So", "Sk") and unicodedata.category(after) == "So"
