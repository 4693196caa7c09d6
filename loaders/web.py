"""The way to what is behind HTTP: single files, and folders whose server lists them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from .remote import CONNECT_SECONDS, READ_SECONDS, TOGETHER, Seen, Way

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Characters that may stand in an address; others are written in hexadecimal.
_LEGAL = "%/:?#[]@!$&'()*+,;=~-._"
_HTML = "text/html"
#: Bytes of a folder's listing, at most.
_MOST_LISTED = 1 << 26
_LATER = (408, 425, 429)
#: Connections to a server, as browsers have: Python's own has room for so few that knock at once,
#: and who is not let in knocks again after a second.
_AT_ONCE = 6


class _Answer(NamedTuple):
    """What a server answered.

    Args:
        url: where it was in the end.
        kind: of content, e.g. `text/html`.
        size: of all of it, bytes; None: it was not told.
        body: what was wanted of it.
    """

    url: str
    kind: str
    size: int | None
    body: bytes


class Refused(Exception):
    """A server answered that it will not; the message says what.

    Args:
        status: of HTTP.
        reason: the server's word for it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}".strip())
        self.status = status


class Web(Way):
    """HTTP: a path is the address, without a slash at its end."""

    def __init__(self, scheme: str) -> None:
        import aiohttp  # noqa: F401  # or say that it is not there
        import fsspec  # noqa: F401

        super().__init__()
        self.scheme = scheme

    @property
    def settings(self) -> object:
        """How long it is waited for."""
        return READ_SECONDS

    def _connect(self) -> Any:
        import aiohttp
        from fsspec.implementations.http import HTTPFileSystem

        # As long as bytes come it may take however long: aiohttp would cut it off after 5 minutes.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
        )
        return HTTPFileSystem(
            client_kwargs={"timeout": timeout, "trust_env": True}, get_client=_client,
            skip_instance_cache=True,
        )  # fmt: skip

    def path(self, name: str) -> str:
        """Return the address."""
        return quote(name.partition("#")[0], _LEGAL).rstrip("/")

    def name(self, path: str) -> str:
        """Return the address."""
        return path

    def split(self, path: str) -> tuple[str, str]:
        """Return the address of the folder, and what it is called there, as people write it."""
        address = path.partition("?")[0]
        if not urlsplit(address).path.strip("/"):
            return path, urlsplit(path).netloc
        folder, _, name = address.rpartition("/")
        return folder, unquote(name)

    def join(self, folder: str, name: str) -> str:
        """Return the address of what is in a folder."""
        return f"{folder}/{quote(name.strip('/'))}"

    def look(self, path: str) -> Seen | None:
        """Return what is there; None: nothing. A folder is what answers with a page at a slash."""
        try:
            found = self._ask(path, 0)
        except Refused as error:
            if error.status in (404, 410):
                return None
            raise
        if found.kind == _HTML and urlsplit(found.url).path.endswith("/"):
            return Seen(is_folder=True)
        return Seen(False, found.size)

    def listing(self, folder: str, most: int) -> Iterator[tuple[str, Seen]]:
        """Yield what a folder's page has links to that lead to what is in it."""
        found = self._ask(f"{folder}/", _MOST_LISTED)
        if found.kind != _HTML:
            return
        links = _Links()
        links.feed(found.body.decode("utf-8", "replace"))
        base = found.url.partition("?")[0]
        told: set[str] = set()
        for link in links.found:
            address = urljoin(base, link).partition("#")[0]
            below = address.removeprefix(base)
            name = below.rstrip("/")
            inside = address.startswith(base) and name and not set("/?") & set(name)
            if inside and name not in told and len(told) < most:
                told.add(name)
                yield unquote(name), Seen(is_folder=below.endswith("/"))

    def get(self, path: str, first: int | None = None) -> bytes:
        """Return a file's bytes: all of them, or the first ones."""
        return self._ask(path, first).body

    def ask(self, paths: Sequence[str]) -> Future[list[bytes | BaseException]]:
        """Ask for all bytes of each file, some at a time."""
        fs, turns = self.fs, asyncio.Semaphore(TOGETHER)  # of tasks; connections are fewer

        async def one(path: str) -> bytes:
            async with turns:
                return (await _answer(fs, path, None)).body

        async def each() -> list[bytes | BaseException]:
            return await asyncio.gather(*map(one, paths), return_exceptions=True)

        return asyncio.run_coroutine_threadsafe(each(), fs.loop)

    def put(self, path: str, content: bytes) -> None:
        """Raise: a server of pages takes no files."""
        raise Refused(405, "nothing can be written over HTTP; name a folder, or s3://bucket/prefix")

    def refusal(self, error: BaseException) -> str:
        """Return why it would be so the next time, too, in words."""
        from aiohttp import (
            ClientResponseError,
            ClientSSLError,
            InvalidURL,
            NonHttpUrlClientError,
            TooManyRedirects,
        )

        if isinstance(error, Refused):
            later = error.status in _LATER or error.status >= 500
            what = {401: "access is refused", 403: "access is refused", 404: "nothing is there",
                    410: "nothing is there"}  # fmt: skip
            return "" if later else f"{what.get(error.status, 'can not be had')}: {error}"
        if isinstance(error, InvalidURL | NonHttpUrlClientError):
            return f"can't be asked for: it leads to {error}, which is no address of HTTP"
        if isinstance(error, TooManyRedirects):
            return "can't be had: it leads from one address to the next, without an end"
        if isinstance(error, ClientSSLError):
            return f"can't be trusted: {error}"
        if isinstance(error, ClientResponseError):  # more came than was said, say
            return f"what answers speaks no HTTP: {error.message.partition(':')[0]}"
        return ""

    def _ask(self, path: str, first: int | None) -> _Answer:
        from fsspec.asyn import sync

        fs = self.fs
        answer: _Answer = sync(fs.loop, _answer, fs, path, first)
        return answer


async def _client(loop: object, **told: Any) -> Any:
    """Return what asks, by not too many connections to a server."""
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit_per_host=_AT_ONCE), **told)


async def _answer(fs: Any, address: str, first: int | None) -> _Answer:
    """Return what a server answers: all of it, or its beginning.

    Raises:
        Refused: it is no answer.
    """
    from yarl import URL

    session = await fs.set_session()
    some = {"Range": f"bytes=0-{first - 1}"} if first and first < _MOST_LISTED else {}
    plain = {"Accept-Encoding": "identity"}  # so that how long it is can be held against it
    # As it was given: what is signed is signed as it stands.
    async with session.get(URL(address, encoded=True), headers={**plain, **some}) as answer:
        if answer.status == 416:  # it is empty
            return _Answer(str(answer.url), "", 0, b"")
        if answer.status >= 400:
            raise Refused(answer.status, answer.reason or "")
        size = answer.headers.get("Content-Length")
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"
        if first is None:
            body = await answer.read()
        else:
            body = b""
            while len(body) < first and (more := await answer.content.read(first - len(body))):
                body += more
        told = None if packed or size is None or some else int(size)
        return _Answer(str(answer.url), answer.content_type, told, body)


class _Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of an anchor."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
