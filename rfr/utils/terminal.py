"""Text on its way to a terminal."""


def printable(text: str) -> str:
    """Without what could steer the terminal: a message or a table may quote a file or a story."""
    return "".join(c if c.isprintable() else "�" for c in text)
