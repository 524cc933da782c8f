"""Text from datasets, paths and options, made safe to show."""

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula."""


def literal(text: str, kept: str = "") -> str:
    r"""Spells out every character of the text that a terminal would act on or cannot show, such as `\x1b`.

    Those are control characters, marks that turn the direction of writing, halves of surrogate pairs, and blanks other
    than the space. Characters in `kept` stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def defuse(text: str) -> str:
    """Returns the text made safe for a CSV file: with a `'` before what a spreadsheet would take for a formula.

    Numbers get no `'`.
    """
    return literal(f"'{text}" if text.lstrip(" ").startswith(FORMULA_SIGNS) and not _is_number(text) else text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
