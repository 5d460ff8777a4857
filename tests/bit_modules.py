"""Writes SavedModels of BiT in the forms that there are, from a checkpoint's tensors.

Like the published modules: weight standardization and group norm in the graph, [0, 1]
in, variables named as in the checkpoints. Written apart from the package, from the
definition, as bit_reference is.
"""

import re

from tests import bit_reference
from transforms.bit.runtime import tf


class Module(tf.Module):
    """A BiT network as its authors export it."""

    def __init__(
        self, tensors, *, depth, rename=lambda name: name, low=-1.0, wrong=0.0
    ):
        super().__init__()
        self.depth = depth
        self.low = low
        self.wrong = wrong
        self.net = {}
        for name, tensor in tensors.items():
            self.net[name] = tf.Variable(tensor, name=rename(name))
        # Attributes may not hold the slashes of the names.
        self._variables = list(self.net.values())
        self.regularization_losses = []

    def features(self, images):
        x = images * (1 - self.low) + self.low
        x = self.conv(pad(x, 3), "resnet/root_block", stride=2)
        x = tf.nn.max_pool2d(pad(x, 1), 3, 2, "VALID")
        for block, count in enumerate(bit_reference.DEPTHS[self.depth], start=1):
            for index in range(1, count + 1):
                stride = 2 if block > 1 and index == 1 else 1
                x = self.unit(f"resnet/block{block}/unit{index:02d}", x, stride)
        return tf.reduce_mean(self.norm_relu("resnet", x), [1, 2]) + self.wrong

    def logits(self, features):
        kernel = self.net["resnet/head/conv2d/kernel"][0, 0]
        return features @ kernel + self.net["resnet/head/conv2d/bias"]

    def output(self, images):
        features = self.features(images)
        has_head = "resnet/head/conv2d/bias" in self.net
        return self.logits(features) if has_head else features

    def unit(self, path, x, stride):
        h = self.norm_relu(f"{path}/a", x)
        proj = f"{path}/a/proj"
        has_proj = f"{proj}/standardized_conv2d/kernel" in self.net
        shortcut = self.conv(h, proj, stride=stride) if has_proj else x
        h = self.norm_relu(f"{path}/b", self.conv(h, f"{path}/a"))
        h = self.conv(pad(h, 1), f"{path}/b", stride=stride)
        return self.conv(self.norm_relu(f"{path}/c", h), f"{path}/c") + shortcut

    def conv(self, x, path, stride=1):
        kernel = self.net[f"{path}/standardized_conv2d/kernel"]
        mean, variance = tf.nn.moments(kernel, [0, 1, 2])
        kernel = (kernel - mean) / tf.sqrt(variance + 1e-10)
        return tf.nn.conv2d(x, kernel, stride, "VALID")

    def norm_relu(self, path, x):
        shape = tf.shape(x)
        groups = tf.reshape(x, [shape[0], shape[1], shape[2], 32, x.shape[3] // 32])
        mean, variance = tf.nn.moments(groups, [1, 2, 4], keepdims=True)
        x = tf.reshape((groups - mean) / tf.sqrt(variance + 1e-5), shape)
        gamma = self.net[f"{path}/group_norm/gamma"]
        return tf.nn.relu(x * gamma + self.net[f"{path}/group_norm/beta"])


def pad(x, size):
    return tf.pad(x, [[0, 0], [size, size], [size, size], [0, 0]])


def images_spec(batch=None, side=None):
    return tf.TensorSpec([batch, side, side, 3], tf.float32, name="inputs")


def save_published(module, path):
    """`__call__` with `training`, and a signature: what the collection has."""

    def call(images, training=False):
        return module.output(images)

    module.__call__ = tf.function(call)
    for training in (False, True):
        module.__call__.get_concrete_function(images_spec(), training=training)
    signature = tf.function(lambda inputs: {"output": module.output(inputs)})
    signatures = {"serving_default": signature.get_concrete_function(images_spec())}
    tf.saved_model.save(module, str(path), signatures=signatures)


def save_plain_call(module, path, *, batch=None, side=None):
    """`__call__` of images only, and no signature."""
    signature = [images_spec(batch, side)]
    module.__call__ = tf.function(module.output, input_signature=signature)
    tf.saved_model.save(module, str(path))


def save_signature_only(module, path, *, key="images", name="classify"):
    """No `__call__`, and names that nobody would guess."""
    spec = tf.TensorSpec([None, None, None, 3], tf.float32, name=key)
    function = tf.function(lambda **inputs: {"x": module.output(inputs[key])})
    signature = function.get_concrete_function(**{key: spec})
    tf.saved_model.save(module, str(path), signatures={name: signature})


def save_both_outputs(module, path, *, form=dict):
    """Features and logits at once."""

    @tf.function(input_signature=[images_spec()])
    def call(images):
        features = module.features(images)
        logits = module.logits(features)
        if form is dict:
            return {"pre_logits": features, "logits": logits}
        return features, logits

    module.__call__ = call
    tf.saved_model.save(module, str(path))


def numbered():
    """Renames convolutions as some exporters do, to standardized_conv2d_7."""
    count = iter(range(1, 10_000))

    def rename(name):
        return re.sub(
            "standardized_conv2d/", f"standardized_conv2d_{next(count)}/", name
        )

    return rename
