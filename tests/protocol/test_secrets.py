"""Addresses without what gives access to them."""

from __future__ import annotations

import time

import pytest

from protocol.wire.secrets import is_hidden, shown


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("http://me:word@host/a.npz", "http://***@host/a.npz"),
        ("https://ghp_token@host:80/a", "https://***@host:80/a"),
        ("s3://key:word@bucket/a", "s3://***@bucket/a"),
        (
            "https://h/a?X-Amz-Credential=AK%2Fus&X-Amz-Date=2&X-Amz-Signature=0f",
            "https://h/a?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Signature=***",
        ),
        ("https://h/a?sv=1&sig=a%2Bb%3D", "https://h/a?sv=1&sig=***"),
        ("https://h/a?api_key=1#end", "https://h/a?api_key=***#end"),
        ("can't reach https://h/a?token=1: 403; https://u:p@g/", None),
        ('{"source": "https://h/a?token=1", "rows": 3}', None),
        (r'{"says": "asked \"https://h/a?token=1\" once", "rows": 3}', None),
    ],
)
def test_what_gives_access_is_not_shown(address: str, wanted: str | None) -> None:
    found = shown(address)
    if wanted is None:
        assert found == address.replace("token=1", "token=***").replace("u:p@", "***@")
    else:
        assert found == wanted
    assert shown(found) == found
    assert is_hidden(found)


@pytest.mark.parametrize(
    "address",
    ["mnist", "photos/a@b?token=1.png", "https://h/@me/a?part=2", "s3://bucket/a@b/c", "a*** b",
     "https://h/a?download=1", "x = 1"],
)  # fmt: skip
def test_what_gives_none_is_shown(address: str) -> None:
    if "token" not in address:  # of a path it is not shown either, and means nothing
        assert shown(address) == address
    assert not is_hidden(address)


@pytest.mark.parametrize("text", ["?" + "key" * 100_000, "?key" * 100_000, "://" * 100_000])
def test_a_text_takes_as_long_as_it_is(text: str) -> None:
    begun = time.process_time()
    assert shown(f"{text} =://") == f"{text} =://"
    assert time.process_time() - begun < 5
