"""Mailboxes that all servers share, as Exchange's front ends do: a folder for each user, and a file for each message.

What a server tells another goes by here as well: see `Word`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Between two looks.
LOOK = 0.05


class Store:
    """All mailboxes."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def of(self, user: str) -> "Mailbox":
        folder = self._folder / "mail" / user
        folder.mkdir(parents=True, exist_ok=True)
        return Mailbox(folder)

    def socket(self, name: str) -> str:
        """Where a Unix socket is, or is to be."""
        return str(self._folder / name)

    def word(self, name: str) -> "Word":
        folder = self._folder / "words"
        folder.mkdir(parents=True, exist_ok=True)
        return Word(folder / name)


class Mailbox:
    """One user's, with the one folder of messages that there is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, subject: str) -> None:
        """A new message. Nobody sees half of it."""
        number = len(self.subjects()) + 1
        unfinished = self._folder / f".{number}"
        unfinished.write_text(subject)
        os.rename(unfinished, self._folder / f"{number:06}")

    def subjects(self) -> list[str]:
        """Of all messages, the oldest first."""
        names = sorted(name for name in os.listdir(self._folder) if not name.startswith("."))
        return [(self._folder / name).read_text() for name in names]


class Word:
    """A number that grows, said by whoever, and heard by all servers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, number: int) -> None:
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(str(number))
        os.rename(unfinished, self._path)

    def heard(self) -> int:
        return int(self._path.read_text()) if self._path.exists() else 0


def wait_for(look: Callable[[], T], seconds: float) -> T:
    """What `look` sees once it is true, or at the end of the time."""
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(LOOK)
    return seen
