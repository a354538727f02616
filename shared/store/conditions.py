"""The conditions of a statement that is put together: only those asked for, so that an index serves them."""


class Conditions:
    """What is to hold, joined by AND, with the arguments in the order of their numbers."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.arguments: list[object] = []

    def value(self, value: object) -> str:
        """The place of an argument in the statement: ``$3``."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def add(self, text: str, *values: object) -> None:
        """One more: ``text`` is a constant of the code, with ``{}`` for each value."""
        self._texts.append(text.format(*(self.value(value) for value in values)))

    def add_if(self, text: str, value: object | None) -> None:
        """One more, unless the value is None."""
        if value is not None:
            self.add(text, value)

    def __str__(self) -> str:
        return " AND ".join(self._texts) or "true"
