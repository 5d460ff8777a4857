"""Google Cloud Storage, each call once."""

import http.client
import io
import os
from collections.abc import Mapping
from typing import Any

import google.auth
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from google.api_core.exceptions import GoogleAPIError, NotFound
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud.storage.exceptions import (  # type: ignore[import-untyped]
    DataCorruption,
    InvalidResponse,
)
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from .remote import Page, Stat, split_uri
from .retry import status_of

_TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two bytes of an answer."""

_CONNECTIONS = 64
"""Kept open; beyond it the client closes and complains."""


class GoogleStorage:
    """The store behind `gs://`, safe to be used by several threads.

    Args:
      options: Beam's, of which the client takes project, impersonation and the like.
    """

    errors = (
        DataCorruption,
        GoogleAPIError,
        GoogleAuthError,
        HTTPError,
        InvalidResponse,
        OSError,
        # Of a bucket whose name cannot be one.
        ValueError,
        http.client.HTTPException,
    )

    def __init__(self, options: PipelineOptions | Mapping[str, Any]) -> None:
        if not isinstance(options, PipelineOptions):
            options = PipelineOptions.from_dictionary(dict(options))
        # An emulator asks for no credentials.
        emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
        self._anonymous = not emulated and not _has_credentials(options)
        self._client = create_storage_client(
            options, use_credentials=not emulated and not self._anonymous
        )
        adapter = HTTPAdapter(pool_connections=8, pool_maxsize=_CONNECTIONS)
        for scheme in ("https://", "http://"):
            self._client._http.mount(scheme, adapter)

    def stat(self, uri: str) -> Stat | None:
        """Looks an object up; None where there is none."""
        bucket, name = split_uri(uri)
        try:
            blob = self._client.bucket(bucket).get_blob(
                name, retry=None, timeout=_TIMEOUT
            )
        except NotFound:
            return None
        return None if blob is None else _stat(uri, blob)

    def read(self, found: Stat, begin: int, end: int) -> bytes:
        """Reads bytes of this generation of an object, as they are stored."""
        data: bytes = self._blob(found.uri).download_as_bytes(
            start=begin,
            end=end - 1,
            if_generation_match=int(found.version),
            # Else what is stored as gzip would come unpacked, whatever the range.
            raw_download=True,
            checksum=None,
            retry=None,
            timeout=_TIMEOUT,
        )
        return data

    def write(self, uri: str, data: bytes | memoryview) -> None:
        """Writes an object; the server compares the checksum and shows it whole."""
        self._blob(uri).upload_from_file(
            io.BytesIO(data),
            size=len(data),
            checksum="crc32c",
            retry=None,
            timeout=_TIMEOUT,
        )

    def delete(self, uri: str) -> None:
        """Deletes an object; nothing happens where there is none."""
        try:
            self._blob(uri).delete(retry=None, timeout=_TIMEOUT)
        except NotFound:
            return

    def list_page(
        self, prefix: str, *, token: str | None = None, limit: int | None = None
    ) -> Page:
        """Lists objects whose URIs begin with a prefix."""
        bucket, name = split_uri(prefix)
        listing = self._client.list_blobs(
            bucket,
            prefix=name,
            page_token=token,
            max_results=limit,
            fields="items(name,size,updated,generation),nextPageToken",
            retry=None,
            timeout=_TIMEOUT,
        )
        blobs = next(listing.pages, ())
        objects = [_stat(f"gs://{bucket}/{blob.name}", blob) for blob in blobs]
        return Page(objects, listing.next_page_token)

    def hint(self, error: Exception) -> str:
        """Says where credentials come from, if there were none."""
        # Without a status nobody has answered: no network, or one behind a proxy.
        if not self._anonymous or status_of(error) not in (401, 403, None):
            return ""
        return (
            "there are no Google credentials: run `gcloud auth application-default"
            " login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
        )

    def _blob(self, uri: str) -> Any:
        bucket, name = split_uri(uri)
        return self._client.bucket(bucket).blob(name)


def _has_credentials(options: PipelineOptions) -> bool:
    """Whether there are any, at once; Beam would look five times, for half a minute."""
    scopes = options.view_as(GoogleCloudOptions).gcp_oauth_scopes
    try:
        google.auth.default(scopes=scopes)
    except DefaultCredentialsError:
        return False
    return True


def _stat(uri: str, blob: Any) -> Stat:
    return Stat(uri, blob.size, blob.updated.timestamp(), str(blob.generation))
