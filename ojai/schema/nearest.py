"""The known name that a person probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Shorter ones are part of too many names.
_LEAST = 3

#: Shorter ones are part of too many words.
_WHOLE = 8


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def nearest(name: str, known: Iterable[str], *, parts: bool = True) -> str | None:
    """The nearest of ``known``, or None; case and punctuation do not matter.

    A name that begins with, or else contains, what was written is near too (``26B``: ``gemma-4-26b-a4b``), unless
    ``parts`` is False; the shortest of several.

    >>> nearest("verfy", ["budget", "plan", "verify"])
    'verify'
    """
    plain = {entry: _plain(entry) for entry in known}
    meant = _plain(name)
    if parts and len(meant) >= _LEAST:
        for fits in (str.startswith, str.__contains__):
            if found := [entry for entry, text in plain.items() if fits(text, meant)]:
                return min(found, key=len)
        # What was written may say more: a model's id on Hugging Face, for a profile.
        if within := [entry for entry, text in plain.items() if len(text) >= _WHOLE and text in meant]:
            return max(within, key=len)
    close = difflib.get_close_matches(meant, plain.values(), n=1, cutoff=0.65)
    return next((entry for entry, text in plain.items() if [text] == close), None)
