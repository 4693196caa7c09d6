"""Make a bucket, unless it is there, and put a data set into it, a folder for each split.

    AWS_ENDPOINT_URL=http://minio:9000 python deploy/fill_store.py s3://datasets/mnist [FOLDER]

FOLDER holds MNIST's four files, by their names; without it they are fetched. What is there already
is left as it is. As the `filler` of docker-compose.yml it is told how to reach MinIO by `AWS_...`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loaders import DatasetNotFound, places
from loaders.fetching import fetch_mnist
from loaders.known import MNIST
from loaders.remote import Remote


def fill(target: str, folder: Path) -> None:
    """Put the four files of a folder where the target says."""
    where = places.at(target)
    if not isinstance(where, Remote) or where.way.scheme != "s3":
        raise DatasetNotFound(f"{target}: name a place like s3://bucket/prefix")
    bucket = where.path.partition("/")[0]
    there = places.patiently(lambda: where.way.fs.call_s3("list_buckets"), where)
    if bucket not in [each["Name"] for each in there["Buckets"]]:
        where.way.fs.call_s3("create_bucket", Bucket=bucket)
    for name in MNIST.files:
        content = (folder / name).read_bytes()
        file = where / ("train" if name.startswith("train") else "test") / name
        if not (places.is_file(file) and places.size(file) == len(content)):
            places.write(file, content)
        print(f"{file}: {len(content):,} bytes", flush=True)


if __name__ == "__main__":
    _, target, *folder = sys.argv
    fill(target, Path(folder[0]) if folder else fetch_mnist(print))
