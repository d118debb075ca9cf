"""Small models of TensorFlow's formats, made by TensorFlow and Keras in one process of their own."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import pathlib, sys
sys.modules |= dict.fromkeys(("sklearn", "pandas", "matplotlib"))  # Keras would import them
import keras, numpy as np, tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

out = pathlib.Path(sys.argv[1])
keras.utils.set_random_seed(0)
random = np.random.default_rng(0)

# A residual block, so that quantised numbers are added.
picture = keras.Input((16, 16, 3), name="picture")
x = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(picture)
y = layers.DepthwiseConv2D(3, padding="same")(x)
x = layers.ReLU(6.0)(layers.Add()([x, y]))
x = layers.GlobalAveragePooling2D()(x)
net = keras.Model(picture, layers.Dense(4, activation="softmax", name="scores")(x))

tf.saved_model.save(
    tf.Module(), str(out / "no_signature")
)
net.export(str(out / "saved"), verbose=False)
scaled = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(1 / 127.5, -1), net])
scaled.export(str(out / "scaled"), verbose=False)
own = tf.Module()
own.net = net
shape = tf.TensorSpec([None, 16, 16, 3], tf.float32, name="picture")
one = tf.function(lambda picture: {"scores": net(picture)}, input_signature=[shape])
two = tf.function(lambda picture: {"doubled": net(picture) * 2}, input_signature=[shape])
feature = {"v": tf.io.FixedLenFeature([3], tf.float32)}
text = tf.function(
    lambda examples: {"sum": tf.reduce_sum(tf.io.parse_example(examples, feature)["v"], 1)},
    input_signature=[tf.TensorSpec([None], tf.string, name="examples")],
)
whole = tf.function(
    lambda picture: {"scores": scaled(tf.cast(picture, tf.float32))},
    input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.uint8, name="picture")],
)
own.scaled = scaled
tf.saved_model.save(own, str(out / "bytes"), signatures={"serving_default": whole})
tf.saved_model.save(own, str(out / "several"), signatures={"one": one, "two": two, "text": text})
tf.saved_model.save(own, str(out / "beside_text"), signatures={"serving_default": text, "tensors": one})
tf.saved_model.save(own, str(out / "text_only"), signatures={"serving_default": text})

function = tf.function(lambda x: net(x, training=False)).get_concrete_function(shape)
frozen = convert_variables_to_constants_v2(function).graph.as_graph_def()
(out / "frozen.pb").write_bytes(frozen.SerializeToString())

weights = random.normal(size=(8, 3)).astype(np.float32)
with tf.Graph().as_default() as graph:
    x = tf.compat.v1.placeholder(tf.float32, [None, 8], name="x")
    training = tf.compat.v1.placeholder(tf.bool, [], name="is_training")
    h = tf.matmul(x, tf.constant(weights))
    h = tf.cond(training, lambda: h * 0.5, lambda: h * 1.0)
    tf.nn.softmax(h, name="probabilities")
    tf.argmax(h, 1, name="label")
(out / "ends.pb").write_bytes(graph.as_graph_def().SerializeToString())

with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
    x = tf.compat.v1.placeholder(tf.float32, [None, 8], name="x")
    w = tf.compat.v1.get_variable("w", initializer=weights)
    y = tf.nn.softmax(tf.matmul(x, w), name="y")
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.saved_model.simple_save(session, str(out / "version_1"), {"x": x}, {"y": y})
(out / "variables.pb").write_bytes(graph.as_graph_def().SerializeToString())

def lite(name, *, whole=None):
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    if whole is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [np.round(random.random((1, 16, 16, 3), dtype=np.float32), 1)] for _ in range(20)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = whole
    (out / name).write_bytes(converter.convert())

lite("float.tflite")
lite("int8.tflite", whole=tf.int8)
lite("uint8.tflite", whole=tf.uint8)

wide = layers.GlobalAveragePooling2D()(layers.Conv2D(32, 3, 2, activation="relu")(picture))
wide = keras.Model(picture, layers.Dense(8)(layers.Dense(64, activation="relu")(wide)))
converter = tf.lite.TFLiteConverter.from_keras_model(wide)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
(out / "dynamic.tflite").write_bytes(converter.convert())

converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [tf.function(lambda x: tf.raw_ops.Roll(input=x, shift=[1], axis=[1])).get_concrete_function(
        tf.TensorSpec([1, 4], tf.float32))])
converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
(out / "select.tflite").write_bytes(converter.convert())
"""


def made(factory: pytest.TempPathFactory) -> Path:
    """The folder of the models, made once for all processes that run tests together."""
    if importlib.util.find_spec("tf2onnx") is None:
        pytest.skip("tf2onnx is not installed")
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "tensorflow-models"
    with (shared / ".tensorflow-models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    begun = folder.with_name(f".{folder.name}")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", MAKE, str(begun)], capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stderr[-2000:]
    begun.rename(folder)
