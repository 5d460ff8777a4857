"""The profile by type of operation."""

import time

import numpy as np
import pytest

from benchmarks import profile
from transforms.bit.runtime import tf


def test_operations_are_timed_by_type():
    kernel = tf.Variable(tf.ones([3, 3, 8, 8]))

    rectify = tf.function(tf.nn.relu, jit_compile=True)

    @tf.function
    def graph(x):
        for _ in range(3):
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.reduce_mean(rectify(x), axis=[1, 2])

    def step(images):
        time.sleep(0.02)
        return graph(tf.cast(images, tf.float32)).numpy()

    images = np.zeros((4, 64, 64, 8), np.uint8)
    found = profile.profile(step, images, steps=3)
    assert {"Conv2D", "Mean", "compiled by XLA", "whole step"} <= found.keys()
    assert found["whole step"] > 20
    assert 0 < found["Conv2D"] < found["whole step"]
    # No calls, in which the others would be counted again.
    assert sum(found.values()) < 2.5 * found["whole step"]


def test_the_table_has_the_largest_first_and_the_sum():
    before = {"Mean": 60.0, "Conv2D": 30.0, "Sub": 10.0, "whole step": 99.0}
    after = {"Conv2D": 20.0, "XlaRun": 5.0, "whole step": 24.0}
    assert list(profile.rows(before, after, most=2)) == [
        ("Mean", "60.0   60%", ""),
        ("Conv2D", "30.0   30%", "20.0   80%"),
        ("2 others", "10.0   10%", "5.0   20%"),
        ("all operations", "100.0  100%", "25.0  100%"),
        ("whole step, not profiled", "99.0", "24.0"),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/Conv2D_3:_MklNativeConv2D", "Conv2D"),
        ("moments/mean:Mean", "Mean"),
        ("cluster_3/xla_run:_XlaRun", "XlaRun"),
        ("ExecutorState::Process", None),
        ("EagerLocalExecute: __inference_1", None),
    ],
)
def test_a_type_is_read_off_the_name_of_an_event(name, kind):
    found = profile._OPERATION.fullmatch(name)
    assert (found and found[1]) == kind
