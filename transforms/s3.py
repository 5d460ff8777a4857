"""Amazon S3 and what speaks like it, each call once."""

import importlib
import io
from collections.abc import Mapping
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, S3Options

from .remote import Page, Stat, split_uri
from .retry import s3_code, status_of

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
"""To connect, and between two bytes of an answer."""

_CONNECTIONS = 64
_PIECE_BYTES = 64 << 20
"""Larger objects are sent in pieces of it; a single request carries 5 GiB at most."""

_OPTIONS = {
    "s3_access_key_id": "aws_access_key_id",
    "s3_secret_access_key": "aws_secret_access_key",
    "s3_session_token": "aws_session_token",
    "s3_endpoint_url": "endpoint_url",
    "s3_region_name": "region_name",
    "s3_api_version": "api_version",
    "s3_verify": "verify",
}
"""Beam's options, and what boto3 calls them."""


class S3Storage:
    """The store behind `s3://`, safe to be used by several threads.

    Args:
      options: Beam's, of which those that begin with `s3_` count.

    Raises:
      ImportError: boto3 is not installed.
    """

    def __init__(self, options: PipelineOptions | Mapping[str, Any]) -> None:
        boto3 = importlib.import_module("boto3")
        botocore = importlib.import_module("botocore")
        self.errors: tuple[type[Exception], ...] = (
            OSError,
            boto3.exceptions.Boto3Error,
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            importlib.import_module("botocore.parsers").ResponseParserError,
        )
        config = importlib.import_module("botocore.config")
        if not isinstance(options, PipelineOptions):
            options = PipelineOptions.from_dictionary(dict(options))
        given = options.view_as(S3Options)
        self._client = boto3.session.Session().client(
            "s3",
            use_ssl=not given.s3_disable_ssl,
            config=config.Config(
                retries={"total_max_attempts": 1},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=_CONNECTIONS,
            ),
            **{theirs: getattr(given, ours) for ours, theirs in _OPTIONS.items()},
        )
        self._pieces = importlib.import_module("boto3.s3.transfer").TransferConfig(
            multipart_threshold=_PIECE_BYTES,
            multipart_chunksize=_PIECE_BYTES,
            max_concurrency=4,
        )

    def stat(self, uri: str) -> Stat | None:
        """Looks an object up; None where there is none."""
        bucket, name = split_uri(uri)
        try:
            found = self._client.head_object(Bucket=bucket, Key=name)
        except self._client.exceptions.ClientError as error:
            if status_of(error) != 404:
                raise
            return None
        updated = found["LastModified"].timestamp()
        return Stat(uri, found["ContentLength"], updated, found["ETag"])

    def read(self, found: Stat, begin: int, end: int) -> bytes:
        """Reads bytes of the object if it is still the one that was found."""
        bucket, name = split_uri(found.uri)
        answer = self._client.get_object(
            Bucket=bucket,
            Key=name,
            Range=f"bytes={begin}-{end - 1}",
            IfMatch=found.version,
        )
        with answer["Body"] as body:
            data: bytes = body.read()
        return data

    def write(self, uri: str, data: bytes | memoryview) -> None:
        """Writes an object; a failed upload in pieces is taken back."""
        bucket, name = split_uri(uri)
        self._client.upload_fileobj(io.BytesIO(data), bucket, name, Config=self._pieces)

    def delete(self, uri: str) -> None:
        """Deletes an object; nothing happens where there is none."""
        bucket, name = split_uri(uri)
        self._client.delete_object(Bucket=bucket, Key=name)

    def list_page(
        self, prefix: str, *, token: str | None = None, limit: int | None = None
    ) -> Page:
        """Lists objects whose URIs begin with a prefix."""
        bucket, name = split_uri(prefix)
        more: dict[str, Any] = {"ContinuationToken": token} if token else {}
        if limit:
            more["MaxKeys"] = limit
        answer = self._client.list_objects_v2(Bucket=bucket, Prefix=name, **more)
        objects = [
            Stat(
                f"s3://{bucket}/{each['Key']}",
                each["Size"],
                each["LastModified"].timestamp(),
                each["ETag"],
            )
            for each in answer.get("Contents", [])
        ]
        return Page(objects, answer.get("NextContinuationToken"))

    def hint(self, error: Exception) -> str:
        """Says where credentials come from, if there were none."""
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            return (
                "there are no AWS credentials: run `aws configure`, set"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give"
                " --s3_access_key_id and --s3_secret_access_key"
            )
        if s3_code(error) in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            return "the AWS credentials are not valid here"
        return ""
