"""The cache: one copy, whole or not at all, whoever asks and whatever fails."""

import hashlib
import http.server
import io
import multiprocessing
import os
import shutil
import tarfile
import threading
import time
from functools import partial

import numpy as np
import pytest

from transforms.bit import ModelError, ModelSpec, Remote, cache, collection, describe
from transforms.bit.random_weights import RandomWeights

URI = "gs://bucket/models/m.npz"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BITBEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    return tmp_path / "cache"


class Store:
    """Objects in memory, and how often they were read."""

    def __init__(self, objects):
        self.objects = objects
        self.opened = 0
        self.sizes_by_uri = {uri: len(data) for uri, data in objects.items()}

    @property
    def remote(self):
        return Remote(self.sizes, self.open)

    def sizes(self, uri):
        return {
            one: size
            for one, size in self.sizes_by_uri.items()
            if one == uri or one.startswith(uri + "/")
        }

    def open(self, uri):
        self.opened += 1
        return io.BytesIO(self.objects[uri])


def checkpoint():
    file = io.BytesIO()
    np.savez(file, **dict(RandomWeights.parse("random:R14x1").tensors()))
    return file.getvalue()


def test_a_remote_checkpoint_is_copied_once():
    store = Store({URI: checkpoint()})
    for _ in range(3):
        info = describe(ModelSpec(URI), remote=store.remote)
        assert (info.name, info.architecture) == (URI, "R14x1")
    assert store.opened == 1


def test_a_remote_folder_is_copied_whole(tmp_path):
    uri = "s3://bucket/m-r50x1"
    names = ["saved_model.pb", "variables/variables.index", "assets/names.txt"]
    store = Store({f"{uri}/{name}": name.encode() for name in names})
    path = cache.fetch(uri + "/", remote=store.remote)
    for name in names:
        with open(os.path.join(path, name)) as file:
            assert file.read() == name
    assert path.endswith("/m-r50x1")


def test_progress_goes_up_to_all_there_is():
    store = Store({URI: bytes(10_000_000)})
    seen = []
    cache.fetch(URI, remote=store.remote, progress=lambda *told: seen.append(told))
    assert seen[-1] == (URI, 10_000_000, 10_000_000)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert len(seen) > 1


def test_one_that_changed_is_copied_anew():
    store = Store({URI: b"one"})
    first = cache.fetch(URI, remote=store.remote)
    other = Store({URI: b"three"})
    second = cache.fetch(URI, remote=other.remote)
    assert first != second
    with open(second, "rb") as file:
        assert file.read() == b"three"


def test_one_that_comes_short_is_no_copy(folder):
    store = Store({URI: b"half"})
    store.sizes_by_uri[URI] = 8
    with pytest.raises(ModelError, match="came as 4 bytes of 8: try again"):
        cache.fetch(URI, remote=store.remote)
    assert not list(folder.rglob("*.npz"))
    store.objects[URI] = b"all of it"[:8]
    with open(cache.fetch(URI, remote=store.remote), "rb") as file:
        assert file.read() == b"all of i"


def test_storage_that_fails_midway_leaves_nothing(folder):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError("the line\nis dead")
            return super().read(2)

    store = Store({URI: b"1234"})
    remote = Remote(store.sizes, lambda uri: Failing(b"1234"))
    with pytest.raises(ModelError, match="cannot be read: the line is dead"):
        cache.fetch(URI, remote=remote)
    assert [path for path in folder.rglob("*") if ".lock" not in path.name] == [
        folder / "models",
        *(folder / "models").iterdir(),
    ]


def test_a_copy_will_do_where_the_storage_cannot_be_reached(caplog):
    store = Store({URI: b"kept"})
    path = cache.fetch(URI, remote=store.remote)

    def fail(uri):
        raise OSError("no route")

    assert cache.fetch(URI, remote=Remote(fail, fail)) == path
    assert "no route" in caplog.text
    with pytest.raises(ModelError, match="no route"):
        cache.fetch("gs://bucket/other.npz", remote=Remote(fail, fail))


def test_a_missing_object_is_an_error():
    with pytest.raises(ModelError, match=r"gs://bucket/models/m.npz does not exist"):
        describe(ModelSpec(URI), remote=Store({}).remote)


def test_a_remote_name_without_storage_is_an_error():
    with pytest.raises(ModelError, match="no storage was given"):
        describe(ModelSpec(URI))


def slow_open(log, uri):
    with open(log, "a") as file:
        file.write("x")
    time.sleep(0.3)
    return io.BytesIO(b"data")


def meet(barrier):
    global _barrier
    _barrier = barrier


def fetch_in_child(log, _):
    remote = Remote(lambda uri: {uri: 4}, partial(slow_open, log))
    # None begins before all have started.
    _barrier.wait()
    with open(cache.fetch(URI, remote=remote), "rb") as file:
        return file.read()


def test_many_processes_make_one_copy(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    with context.Pool(4, meet, (context.Barrier(4),)) as pool:
        found = pool.map(partial(fetch_in_child, str(log)), range(4), chunksize=1)
    assert found == [b"data"] * 4
    assert log.read_text() == "x"


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_an_archive_that_leads_outside_is_refused(tmp_path):
    path = archive(tmp_path / "m.tar.gz", {"../../evil": b"x"})
    with pytest.raises(ModelError, match="cannot be unpacked"):
        cache.unpack(path)
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_that_blows_up_is_refused_unread(tmp_path, folder):
    path = archive(tmp_path / "m.tar.gz", {"saved_model.pb": bytes(50_000_000)})
    with pytest.raises(ModelError, match="over 8 times its size"):
        cache.unpack(path)
    assert not list(folder.rglob("saved_model.pb"))


def test_a_truncated_archive_is_an_error(tmp_path, folder):
    path = archive(tmp_path / "m.tar.gz", {"saved_model.pb": os.urandom(100_000)})
    os.truncate(path, 50_000)
    with pytest.raises(ModelError, match="cannot be unpacked"):
        describe(ModelSpec(path))
    assert not list(folder.rglob("saved_model.pb"))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files` by path, and counts what was asked."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.server.asked.append((self.command, self.path))
        data = self.server.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if body and data:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def at(monkeypatch, server):
    """Moves the published models to a server."""
    monkeypatch.setattr(collection, "HUB", server.url)
    monkeypatch.setattr(collection, "CHECKPOINTS", server.url)
    monkeypatch.setattr(collection, "published", collection.published.__wrapped__)


def test_an_official_checkpoint_is_downloaded_once(monkeypatch, server):
    at(monkeypatch, server)
    server.files["/vtab/BiT-M-R50x1-run0-dtd.npz"] = checkpoint()
    for _ in range(2):
        info = describe(ModelSpec("BiT-M-R50x1-run0-dtd"))
        assert info.architecture == "R14x1"
    assert [asked for asked, _ in server.asked] == ["HEAD", "GET", "HEAD"]
    with pytest.raises(ModelError, match=r"BiT-M-R50x1-run1-dtd.npz does not exist"):
        describe(ModelSpec("BiT-M-R50x1-run1-dtd"))


def saved_model(path):
    from transforms.bit.runtime import tf

    module = tf.Module()
    module.variables_ = [
        tf.Variable(tensor, name=name)
        for name, tensor in RandomWeights.parse("random:R14x1").tensors()
    ]
    tf.saved_model.save(module, str(path))
    return path


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_module_in_the_hub_cache_needs_no_network(tmp_path, which):
    # Under any of its URLs: the test machine has no network at all.
    url = collection.find("google/bit/m-r50x1/1").urls[which]
    folder = tmp_path / "hub" / hashlib.sha1(url.encode()).hexdigest()
    saved_model(folder)
    info = describe(ModelSpec("google/bit/m-r50x1/1"))
    assert (info.architecture, info.image_size) == ("R14x1", 224)


def test_a_module_is_downloaded_by_the_hubs_library(tmp_path, monkeypatch, server):
    at(monkeypatch, server)
    path = saved_model(tmp_path / "model")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in os.listdir(path):
            tar.add(path / name, name)
    handle = "google/bit/m-r50x1/ilsvrc2012_classification/1"
    server.files[f"/{handle}?tf-hub-format=compressed"] = packed.getvalue()
    info = describe(ModelSpec(handle))
    assert (info.architecture, info.image_size) == ("R14x1", 384)
    asked = len(server.asked)
    assert describe(ModelSpec(handle)).digest == info.digest
    assert len(server.asked) == asked
    with pytest.raises(ModelError, match="m-r50x3/1 cannot be downloaded") as caught:
        describe(ModelSpec("google/bit/m-r50x3/1"))
    assert "\n" not in str(caught.value)


def test_a_hub_cache_that_was_tidied_is_an_error(tmp_path):
    url = "https://tfhub.dev/google/bit/m-r50x1/1"
    folder = tmp_path / "hub" / hashlib.sha1(url.encode()).hexdigest()
    saved_model(folder)
    os.unlink(folder / "saved_model.pb")
    with pytest.raises(ModelError, match=r"has no saved_model\.pb: remove the folder"):
        describe(ModelSpec("google/bit/m-r50x1/1"))
    shutil.rmtree(folder)
