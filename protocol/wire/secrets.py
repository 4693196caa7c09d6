"""Addresses as anybody may see them: without passwords, and without what signs them."""

from __future__ import annotations

import re

#: What stands for what is not shown; an address with it leads nowhere.
HIDDEN = "***"
#: `user:password@`, or a token alone.
_USER = re.compile(r"(?<=://)[^/?#@\s\"'<>\\]*@")
#: Of a query, what gives access, by its name: `X-Amz-Signature=`, `sig=`, `token=`.
_GIVES = re.compile(
    r"(?P<name>[?&][\w.%-]{0,64}(sig|token|secret|pass|pwd|key|cred|auth|policy)[\w.%-]{0,64}=)"
    r"[^&#\s\"'<>\\]*[^&#\s\"'<>\\:;,.)]",
    re.IGNORECASE,
)


def shown(text: str) -> str:
    """Return a text, or an address, with `HIDDEN` for what gives access to it.

    That is whatever stands before the host, and what a query has under the names of signatures,
    tokens, keys and passwords. Who may read a log, a run or what a run is published as may not
    have the data for that.
    """
    if "://" not in text and "=" not in text:
        return text
    return _GIVES.sub(rf"\g<name>{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def is_hidden(address: str) -> bool:
    """Whether something of an address was not kept."""
    return "://" in address and HIDDEN in address
