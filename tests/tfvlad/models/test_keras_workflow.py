"""What a Keras user expects: fit, evaluate, save, load, XLA, mixed precision, replicas."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import PROJECT
from tests.helpers import MemoryClips, tiny_backbone
from tfvlad.backbones import with_frozen_copy
from tfvlad.models import action_vlad, average_pooling, intermediate_outputs, max_pooling, ta_vlad
from tfvlad.training import initialize_clusters

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}


BUILDERS = {
    "ta_vlad": lambda backbone: ta_vlad(backbone, 3, units=5, bidirectional=True, **SMALL),
    "flattened_gru": lambda backbone: ta_vlad(
        backbone, 3, units=5, temporal="flattened_gru", **SMALL
    ),
    "separate_grus": lambda backbone: ta_vlad(
        backbone, 3, units=5, temporal="separate_grus", **SMALL
    ),
    "frozen_copy": lambda backbone: ta_vlad(
        with_frozen_copy(backbone, "block2"), 3, units=5, **SMALL
    ),
    "action_vlad": lambda backbone: action_vlad(backbone, 3, attention=True, **SMALL),
    "average_pooling": lambda backbone: average_pooling(backbone, 3, num_frames=3),
    "max_pooling": lambda backbone: max_pooling(backbone, 3, num_frames=3),
}


def compile_model(model, **options):
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def run_python(code, *arguments):
    code = textwrap.dedent(code)
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def clips():
    source = MemoryClips.random(6)
    return source.frames, source.labels


def test_fit_evaluate_save_and_load(clips, tmp_path, traced):
    model = compile_model(ta_vlad(tiny_backbone(), 3, units=5, dropout=0.0, **SMALL))
    initialize_clusters(model, [clips])
    history = model.fit(*clips, epochs=10, batch_size=3, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    loss, accuracy = model.evaluate(*clips, verbose=0)
    logits = model.predict(clips[0], verbose=0)
    assert accuracy == pytest.approx(np.mean(np.argmax(logits, axis=-1) == clips[1]))
    powers = np.exp(logits)
    likelihood = powers[np.arange(6), clips[1]] / powers.sum(axis=-1)
    assert loss == pytest.approx(-np.mean(np.log(likelihood)), rel=1e-4)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    # What is trainable, the optimizer and the names of the intermediate tensors outlive the file.
    assert loaded.get_layer("backbone").trainable_weights == []
    assert loaded.evaluate(*clips, verbose=0) == pytest.approx([loss, accuracy], rel=1e-4)
    outputs = intermediate_outputs(loaded, ["states", "logits"]).predict(clips[0], verbose=0)
    assert outputs["states"].shape == (6, 3, 4, 5)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)


@pytest.mark.parametrize(
    "imports",
    ["import tfvlad, keras", pytest.param("import keras, tfvlad", marks=pytest.mark.slow)],
)
def test_load_in_a_new_process(clips, tmp_path, imports):
    models = {name: build(tiny_backbone()) for name, build in BUILDERS.items()}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    logits = {name: np.array(model(clips[0])) for name, model in models.items()}
    np.savez(tmp_path / "expected.npz", clips=clips[0], **logits)
    run_python(
        f"""
        {imports}
        import sys
        import numpy as np

        folder = sys.argv[1]
        expected = dict(np.load(f"{{folder}}/expected.npz"))
        clips = expected.pop("clips")
        for name, logits in expected.items():
            model = keras.models.load_model(f"{{folder}}/{{name}}.keras")
            np.testing.assert_allclose(np.array(model(clips)), logits, atol=1e-6)
        """,
        tmp_path,
    )


@pytest.mark.slow
def test_jit_compile(clips, traced):
    losses = []
    for jit_compile in (False, True):
        model = ta_vlad(tiny_backbone(), 3, units=5, dropout=0.0, **SMALL)
        compile_model(model, jit_compile=jit_compile)
        losses.append(model.fit(*clips, shuffle=False, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.parametrize("name", ["ta_vlad", "flattened_gru", "separate_grus", "action_vlad"])
def test_mixed_precision(clips, name):
    expected = np.array(BUILDERS[name](tiny_backbone())(clips[0]))
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = compile_model(BUILDERS[name](tiny_backbone()))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    logits = model(clips[0])
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(np.array(logits), expected, atol=0.1)
    before = model.get_layer("logits").get_weights()[0]
    history = model.fit(*clips, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.any(model.get_layer("logits").get_weights()[0] != before)
    variables = {str(tf.as_dtype(weight.dtype).name) for weight in model.trainable_weights}
    assert variables == {"float32"}


@pytest.mark.slow
def test_mirrored_strategy():
    output = run_python(
        """
        import keras, numpy as np, tensorflow as tf
        from tests.helpers import MemoryClips, tiny_backbone
        from tfvlad.models import ta_vlad

        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        source = MemoryClips.random(6)
        losses = []
        for strategy in (tf.distribute.get_strategy(),
                         tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
            with strategy.scope():
                model = ta_vlad(tiny_backbone(), 3, num_frames=3, num_clusters=4, units=5,
                                alpha=5.0, dropout=0.0)
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
                model.compile(keras.optimizers.Adam(1e-2), loss)
            dataset = source.dataset(6, False, False, 0)
            history = model.fit(dataset, epochs=2, verbose=0).history["loss"]
            print(strategy.num_replicas_in_sync, *history)
        """
    )
    one, two = (list(map(float, line.split())) for line in output.splitlines()[-2:])
    assert (one[0], two[0]) == (1, 2)
    np.testing.assert_allclose(two[1:], one[1:], rtol=1e-3)
