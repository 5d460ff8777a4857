"""The rows of `python -m benchmarks` about the model."""

import argparse
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import models, ours
from benchmarks.ceiling import Convolutions
from benchmarks.contest import Outcome, hold
from benchmarks.layers import convolutions
from benchmarks.machine import Machine
from benchmarks.report import agreement
from benchmarks.settings import Settings
from transforms.bit.architecture import Architecture
from transforms.bit.network import Network
from transforms.bit.random_weights import RandomWeights
from transforms.bit.runtime import tf

CPU = Machine("AMD EPYC zen5", 2, ("avx512_bf16",), 23.5, "", 0.1)
GPU = Machine("Xeon", 16, ("amx_bf16",), 128, "NVIDIA H100", 0.1)


def kinds(outputs, *, images):
    """Shapes of inputs and kernels, and strides, of the convolutions of a graph."""
    spec = tf.TensorSpec(images, tf.uint8)
    graph = tf.function(outputs).get_concrete_function(spec).graph
    found = Counter()
    for operation in graph.get_operations():
        if operation.type == "Conv2D":
            x, kernel = (tuple(tensor.shape) for tensor in operation.inputs)
            found[x, kernel, operation.get_attr("strides")[1]] += 1
    return found


def test_the_ceiling_has_the_convolutions_of_the_network():
    weights = RandomWeights(Architecture.parse("R50x1"))
    network = Network.load(weights.architecture, tensors=weights.tensors())
    layers = convolutions(weights.architecture, 64)
    alone = Convolutions(layers, batch_size=2, precision="float32")
    found = kinds(alone.outputs, images=[2, 64, 64, 3])
    assert found == kinds(network.outputs, images=[2, 64, 64, 3])
    assert found.total() == 53


def test_the_ceiling_does_all_convolutions_one_after_the_other():
    layers = convolutions(Architecture.parse("R14x1"), 32)
    alone = Convolutions(layers, batch_size=2, precision="bfloat16")
    images = tf.zeros([2, 32, 32, 3], tf.uint8)
    results, _ = tf.function(alone.outputs)(images)
    assert results.shape == (2, 17)
    # None has been left out: of random kernels no sum is 0.
    assert np.all(results.numpy() != 0) and np.isfinite(results.numpy()).all()
    graph = tf.function(alone.outputs).get_concrete_function(images).graph
    convs = [one for one in graph.get_operations() if one.type == "Conv2D"]
    # Each waits for the one before: it may not even be read earlier.
    reads = [conv.inputs[1].op for conv in convs]
    assert all(read.control_inputs for read in reads[1:])


class Model:
    """Two streams that sleep."""

    streams, batch_size = 2, 4

    def __init__(self):
        self.threads = set()

    def __call__(self, images):
        self.threads.add(threading.get_ident())
        time.sleep(0.05)


def test_our_model_is_driven_by_all_of_its_streams():
    model = Model()
    began = time.perf_counter()
    assert ours.run(model, np.zeros((4, 8, 8, 3), np.uint8), 3) == 24
    assert time.perf_counter() - began < 0.25
    assert len(model.threads) == 2


def rows(machine, tmp_path):
    found = models.contests(Settings(machine, tmp_path))
    return {contest.name: contest for contest in found}


def test_every_way_to_run_pytorch_takes_part(tmp_path):
    ways = [side.name for side in rows(CPU, tmp_path)["r50x1-best"].others]
    for way in ("float32", "bfloat16", "channels_last", "autocast", "compiled"):
        assert any(way in name for name in ways)
    on_gpu = [side.name for side in rows(GPU, tmp_path)["r50x1-best"].others]
    assert "PyTorch autocast compiled" in on_gpu
    assert not any("streams" in name for name in on_gpu)


def test_the_bars_are_those_that_were_set(tmp_path):
    bars = {
        name: row.bar and row.bar.number for name, row in rows(CPU, tmp_path).items()
    }
    assert bars == {
        "r50x1-best": 1.3,
        "r50x1-float32": 1.1,
        "r50x1-saved-model": 4,
        "r50x1-saved-model-float32": None,
        "r50x1-convolutions-float32": 0.5,
        "r50x1-convolutions-bfloat16": 0.5,
        "r50x1-product-float32": None,
        "r50x1-product-bfloat16": None,
        "r50x1-tuning": 0.95,
        "r101x3-best": 1.2,
    }


def test_the_sweep_has_all_that_may_be_chosen(tmp_path):
    sweep = [side.name for side in rows(CPU, tmp_path)["r50x1-tuning"].others]
    assert len(sweep) == 8
    assert {"1 threads, batches of 16", "2 threads, batches of 4"} <= set(sweep)


def quick(tmp_path, peers_python, name):
    args = argparse.Namespace(quick=True, batch_size=None, peers_python=peers_python)
    settings = command._settings(args, CPU, tmp_path)
    [contest] = command.choose(models.contests(settings), only=[name])
    outcome = Outcome(contest)
    hold(outcome, rounds=1)
    return outcome


@pytest.mark.slow
def test_the_saved_model_does_the_same_work(tmp_path):
    outcome = quick(tmp_path, "", "r14x1-saved-model-float32")
    assert outcome.problems == [] and len(outcome.figures) == 1
    assert agreement(outcome, "SavedModel") > 0.99999


@pytest.mark.peers
def test_pytorch_does_the_same_work(tmp_path):
    outcome = quick(tmp_path, sys.executable, "r14x1-best")
    assert outcome.problems == [] and len(outcome.figures) == 1
    for name in outcome.facts:
        assert agreement(outcome, name) > 0.999
