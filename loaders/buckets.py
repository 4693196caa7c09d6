"""The way to S3, and to whatever talks like it: AWS, MinIO, SeaweedFS, Ceph.

It is reached as the `AWS_...` variables, and the files of AWS's own command, say: endpoint, region,
credentials, profile. Without credentials nothing is signed, as public buckets want it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from protocol.wire.secrets import shown
from protocol.wire.words import safe_line

from .remote import CONNECT_SECONDS, READ_SECONDS, TOGETHER, Seen, Way

if TYPE_CHECKING:
    from concurrent.futures import Future

REGION = "us-east-1"
#: A server may be asked for so many names at once.
_PAGE = 1_000
#: What a server said, as botocore keeps it.
Response = dict[str, Any]
#: What is asked for too soon, too often; it may be granted later.
_LATER = (408, 429)


class Buckets(Way):
    """S3: a path is `bucket/key`."""

    scheme = "s3"

    def __init__(self) -> None:
        import s3fs  # noqa: F401  # or say that it is not there

        super().__init__()
        self._signed = False

    @property
    def settings(self) -> object:
        """The variables that say how it is reached."""
        told = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return READ_SECONDS, tuple(sorted(told.items()))

    def _connect(self) -> Any:
        import s3fs

        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or REGION
        config: dict[str, object] = {
            "connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1}, "max_pool_connections": TOGETHER,
        }  # fmt: skip
        if endpoint():
            config["s3"] = {"addressing_style": "path"}  # MinIO has no names for its buckets
        self._signed = _has_credentials()
        fs = s3fs.S3FileSystem(
            anon=not self._signed, endpoint_url=endpoint() or None,
            client_kwargs={"region_name": region}, config_kwargs=config,
            use_listings_cache=False, skip_instance_cache=True,
        )  # fmt: skip
        fs.retries = 1  # who asks again, and for how long, is settled in `places.patiently`
        return fs

    def path(self, name: str) -> str:
        """Return `bucket/key`."""
        return name.partition("://")[2].strip("/")

    def name(self, path: str) -> str:
        """Return `s3://bucket/key`."""
        return f"s3://{path}"

    def split(self, path: str) -> tuple[str, str]:
        """Return what stands before the last slash, and behind it."""
        folder, _, name = path.rpartition("/")
        return folder or path, name

    def join(self, folder: str, name: str) -> str:
        """Return both with a slash between them."""
        return f"{folder}/{name.strip('/')}".strip("/")

    def look(self, path: str) -> Seen | None:
        """Return what is there; None: nothing.

        Raises:
            FileNotFoundError: there is no such bucket.
        """
        bucket, _, key = path.partition("/")
        if not key:
            self._page(bucket, "", 1)
            return Seen(is_folder=True)
        denied: PermissionError | None = None
        try:
            found = self.fs.call_s3("head_object", Bucket=bucket, Key=key)
            return Seen(False, int(found["ContentLength"]))
        except FileNotFoundError:
            pass
        except PermissionError as error:
            denied = error  # and does not say why; to list it does
        page = self._page(bucket, f"{key}/", 1)
        if page.get("Contents") or page.get("CommonPrefixes"):
            return Seen(is_folder=True)
        if denied is not None:
            raise denied
        return None

    def listing(self, folder: str, most: int) -> Iterator[tuple[str, Seen]]:
        """Yield what is in a folder: a request for each thousand."""
        bucket, _, key = folder.partition("/")
        before = f"{key}/" if key else ""
        token: str | None = None
        while most > 0:
            page = self._page(bucket, before, min(_PAGE, most), token)
            for each in page.get("Contents", ()):
                name = each["Key"].removeprefix(before)
                if name and not name.endswith("/"):  # some stores keep an object for a folder
                    yield name, Seen(False, int(each["Size"]))
                    most -= 1
            for each in page.get("CommonPrefixes", ()):
                name = each["Prefix"].removeprefix(before).rstrip("/")
                if name:
                    yield name, Seen(is_folder=True)
                    most -= 1
            token = page.get("NextContinuationToken")
            if not (page.get("IsTruncated") and token):
                return

    def _page(self, bucket: str, before: str, most: int, token: str | None = None) -> Response:
        more = {} if token is None else {"ContinuationToken": token}
        page: Response = self.fs.call_s3(
            "list_objects_v2", Bucket=bucket, Prefix=before, Delimiter="/", MaxKeys=most, **more
        )
        return page

    def get(self, path: str, first: int | None = None) -> bytes:
        """Return a file's bytes, by one request: of one version, and no other."""
        if first is None:
            return bytes(self.fs.cat_file(path, max_concurrency=1))
        try:
            return bytes(self.fs.cat_file(path, start=0, end=first))
        except OSError as error:
            if _status(error) == 416:  # it is empty
                return b""
            raise

    def ask(self, paths: Sequence[str]) -> Future[list[bytes | BaseException]]:
        """Ask for all bytes of each file, by one request each, some at a time."""
        fs = self.fs
        each = fs._cat_ranges(
            list(paths), None, None, on_error="return", batch_size=TOGETHER, max_concurrency=1
        )
        return asyncio.run_coroutine_threadsafe(each, fs.loop)

    def put(self, path: str, content: bytes) -> None:
        """Write an object: S3 shows none before it is whole."""
        self.fs.pipe_file(path, content)

    def refusal(self, error: BaseException) -> str:
        """Return why it would be so the next time, too, in words."""
        at = f" at {shown(endpoint())}" if endpoint() else ""
        if isinstance(error, PermissionError):
            keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            self.forget()
            how = f"look at {keys}" if self._signed else f"there are no credentials: set {keys}"
            return f"access is refused{at}: {_brief(error)}; {how}"
        if isinstance(error, FileNotFoundError):
            no_bucket = _code(error) == "NoSuchBucket"
            return f"there is no such bucket{at}" if no_bucket else f"nothing is there{at}"
        from botocore.exceptions import BotoCoreError, ConnectionError, HTTPClientError

        lost = (ConnectionError, HTTPClientError)
        if isinstance(error, BotoCoreError) and not isinstance(error, lost):
            return f"can't be asked for{at}: {_brief(error)}"
        if isinstance(error, ValueError):  # an endpoint that is no URL, say
            return f"can't be asked for{at}: {_brief(error)}"
        status = _status(error)
        if 400 <= status < 500 and status not in _LATER:
            return f"can't be had{at}: {_brief(error)}"
        return ""


def endpoint() -> str:
    """Return where S3 is, if that was said; else it is AWS's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _has_credentials() -> bool:
    """Whether there are any, wherever AWS's own command would look for them."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return True
    import botocore.session

    return botocore.session.Session().get_credentials() is not None


def _response(error: BaseException) -> Response:
    """Return what the server said, as botocore keeps it."""
    for each in (error, error.__cause__, error.__context__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _code(error: BaseException) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _brief(error: BaseException) -> str:
    return safe_line(shown(" ".join(f"{error}".split()))[:200].rstrip(".") or type(error).__name__)
