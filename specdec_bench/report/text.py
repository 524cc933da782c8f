"""Text from datasets and paths, made safe to show."""


def literal(text: str) -> str:
    r"""Returns the text with every character spelt out that a terminal would act on or cannot show, as in `\x1b`."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
