"""SavedModels against their Keras models: every signature of every kind of model."""

import base64
import json
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_image

from export.serving.preprocessing import crop_frames
from export.serving.saved_model import save_serving_model
from tests.export.serving.serving_cases import CASES, MIXED, NAMES, clips_of, made, mixed_model
from tests.helpers import slow_except
from tfvlad import compat
from tfvlad.live import initial_state, streaming_model
from tfvlad.models import frame_attributions, intermediate_outputs

BASIC = {"serving_default", "encoded_frames"}
# What each model answers besides, and what `highlight` adds.
OFFERS = {
    "ta_vlad": ({"features", "highlight", "stream"}, {"frame_weights", "attention_maps"}),
    "action_vlad": ({"features", "highlight", "stream"}, {"frame_weights"}),
    "flattened_gru": ({"features", "highlight"}, {"attention_maps"}),
    "concat": ({"features", "highlight", "stream"}, {"frame_weights"}),
    "early": ({"features", "highlight", "stream"}, {"frame_weights"}),
    "late": ({"features", "highlight", "stream"}, {"frame_weights"}),
    "late_fusion": ({"highlight"}, {"frame_weights"}),
    "ensemble": (set(), set()),
    "attention_lstm": ({"features", "highlight"}, {"frame_weights"}),
    "plain_lstm": ({"features", "stream"}, set()),
    "full_size": ({"features", "highlight", "stream"}, {"frame_weights"}),
    "mixed_ta_vlad": ({"features", "highlight", "stream"}, {"frame_weights", "attention_maps"}),
    "mixed_attention_lstm": ({"features", "highlight", "stream"}, {"frame_weights"}),
}


class Served:
    """A case and its export, made on what looks like a machine with a GPU."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.clip_model = made(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tf.config, "list_logical_devices", lambda kind=None: [kind])
            save_serving_model(self.clip_model, folder)
        self.loaded = tf.saved_model.load(str(folder))
        self.clips = clips_of(self.clip_model)
        self.expected = self.clip_model.probabilities(self.clips).numpy()

    def __call__(self, signature="serving_default", **inputs):
        return self.loaded.signatures[signature](**inputs)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Exports each case once."""
    found = {}

    def get(name):
        if name not in found:
            found[name] = Served(name, tmp_path_factory.mktemp("served") / name / "1")
        return found[name]

    return get


# A recurrence of our own and one of Keras', two streams, features of frames, nothing besides.
FAST = ("ta_vlad", "plain_lstm", "late", "attention_lstm", "ensemble")


def cases(names):
    names = list(names)
    return pytest.mark.parametrize("name", slow_except(names, *set(names).intersection(FAST)))


every_case = cases(CASES)


def assert_answers(answer, expected, atol=1e-5):
    np.testing.assert_allclose(answer["probabilities"], expected, atol=atol)
    assert answer["probabilities"].dtype == tf.float32
    assert answer["class_names"].numpy().astype(str).tolist() == [list(NAMES)] * len(expected)


def encoded(images, extension=".png", quality=95):
    """Files of images `(..., H, W, channels)`."""
    flat = images.reshape(-1, *images.shape[-3:])
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension == ".jpg" else []
    # OpenCV takes blue first
    files = [cv2.imencode(extension, image[..., ::-1], options)[1].tobytes() for image in flat]
    return np.array(files, object).reshape(images.shape[:-3])


def files_of(clips, extension=".png"):
    files = {}
    for stream, x in clips.items():
        # (B, T, H, W, 2L) -> (B, T, 2L, H, W, 1)
        images = np.moveaxis(x, -1, 2)[..., np.newaxis] if stream == "flow" else x
        files[stream] = encoded(images, extension)
    return {stream: tf.constant(x) for stream, x in files.items()}


@every_case
def test_frames(serve, name):
    served = serve(name)
    signatures, _ = OFFERS[name]
    assert set(served.loaded.signatures) == BASIC | signatures
    answer = served(**served.clips)
    assert set(answer) == {"probabilities", "class_names"}
    assert_answers(answer, served.expected)
    total = served.expected.sum(axis=1)
    assert (np.abs(total - 1) < 1e-5).all() != served.clip_model.multi_label


@every_case
def test_files_of_the_same_pixels(serve, name):
    served = serve(name)
    answer = served("encoded_frames", **files_of(served.clips))
    assert_answers(answer, served(**served.clips)["probabilities"].numpy())


@cases(["late", "attention_lstm", "flattened_gru"])
def test_any_batch(serve, name):
    served = serve(name)
    clips = clips_of(served.clip_model, 3)
    large = {stream: np.repeat(np.repeat(x, 2, 2), 3, 3) for stream, x in clips.items()}
    for inputs in (clips, large):
        for signature in ("serving_default", "highlight"):
            answer = served(signature, **inputs)
            assert answer["probabilities"].shape == answer["class_names"].shape == (3, 3)
            assert np.isfinite(answer["probabilities"]).all()
    assert served("encoded_frames", **files_of(clips))["probabilities"].shape == (3, 3)


def inputs_of(served, signature):
    return served.loaded.signatures[signature].structured_input_signature[1]


FEATURES = {
    "ta_vlad": ["features"],
    "early": ["rgb_features", "flow_features"],
    "attention_lstm": ["input_data", "attended_data"],
    "plain_lstm": ["input_data"],
    "mixed_ta_vlad": ["features"],
    "mixed_attention_lstm": ["input_data", "attended_data"],
}


@cases(FEATURES)
def test_features(serve, name):
    served = serve(name)
    model = served.clip_model.model
    layers = {layer.name: layer for layer in model.layers}
    if "lstm" in name:
        extractors = [x for x in ("input_extractor", "attended_extractor") if x in layers]
        part = keras.Model(model.inputs, [layers[x].output for x in extractors])
        features = part(served.clips["frames"])
        features = features if isinstance(features, list) else [features]
    else:
        backbones = [x for x in ("backbone", "rgb_backbone", "flow_backbone") if x in layers]
        features = [
            layers[x](clips) for x, clips in zip(backbones, served.clips.values(), strict=True)
        ]
    inputs = dict(zip(FEATURES[name], features, strict=True))
    assert set(inputs_of(served, "features")) == set(inputs)
    inputs = {key: tf.cast(x, tf.float32) for key, x in inputs.items()}
    answer = served("features", **inputs)
    assert_answers(answer, served.expected)


@every_case
def test_highlight(serve, name):
    served = serve(name)
    signatures, added = OFFERS[name]
    if "highlight" not in signatures:
        assert "- `highlight`: " in (served.folder / "assets" / "model_card.md").read_text()
        return
    answer = served("highlight", **served.clips)
    assert set(answer) == {"probabilities", "class_names"} | added
    assert all(x.dtype == tf.float32 for key, x in answer.items() if key != "class_names")
    assert_answers(answer, served.expected)
    model, clips = served.clip_model.model, list(served.clips.values())
    clips = clips if len(clips) > 1 else clips[0]
    if "attention_lstm" in name:
        inner = model.layers[-1]
        parts = [model.get_layer(x).output for x in ("input_extractor", "attended_extractor")]
        features = keras.Model(model.inputs, parts)(clips)
        attention = intermediate_outputs(inner, ["attention"])(features)["attention"]
        np.testing.assert_allclose(answer["frame_weights"], np.mean(attention, 1), atol=1e-5)
    elif "frame_weights" in added:
        classes = served.expected.argmax(axis=1)
        weights, _ = frame_attributions(model, clips, classes)
        np.testing.assert_allclose(answer["frame_weights"], weights, atol=1e-4)
    if "attention_maps" in added:
        attention = intermediate_outputs(model, ["attention"])(clips)["attention"]
        np.testing.assert_allclose(answer["attention_maps"], attention, atol=1e-4)


@cases(name for name, (more, _) in OFFERS.items() if "stream" in more)
def test_stream(serve, name):
    served = serve(name)
    stream = streaming_model(served.clip_model.model)
    states = initial_state(stream, batch_size=2)
    names = {"frames": "frame", "flow": "flow"}
    for t in range(next(iter(served.clips.values())).shape[1]):
        frame = {names[key]: x[:, t] for key, x in served.clips.items()}
        answer = served("stream", **frame, **states)
        states = {key: answer[key] for key in states}
    assert_answers(answer, served(**served.clips)["probabilities"].numpy())
    assert_answers(answer, served.expected)


@cases(MIXED)
def test_half_precision_is_served_in_single(serve, name):
    served, model = serve(name), mixed_model(name)
    model.set_weights(served.clip_model.model.get_weights())
    assert "float16" in {layer.compute_dtype for layer in compat.walk_layers(model)}
    scores = model(served.clips["frames"].astype("float32"))
    expected = tf.nn.softmax(tf.cast(scores, tf.float32)).numpy()
    assert_answers(served(**served.clips), expected, 5e-3)


class TestWrongRequests:
    @pytest.mark.parametrize("signature", ["serving_default", "encoded_frames", "highlight"])
    def test_number_of_frames(self, serve, signature):
        """A server feeds the graph without looking at the signature's shapes."""
        served = serve("ta_vlad")
        function = served.loaded.signatures[signature]
        frames = clips_of(served.clip_model)["frames"][:, :2]
        frames = tf.constant(encoded(frames) if signature == "encoded_frames" else frames)
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            tf.raw_ops.StatefulPartitionedCall(
                args=[frames, *function.captured_inputs],
                Tout=[x.dtype for x in function.outputs],
                f=function,
            )
        expected = "[?,3]" if signature == "encoded_frames" else "[?,3,?,?,3]"
        assert f"is not compatible with expected shape {expected}" in str(caught.value)

    def test_no_image(self, serve):
        files = tf.constant([[b"no image"] * 3])
        with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
            serve("ta_vlad")("encoded_frames", frames=files)


class TestEncodedFrames:
    def test_frames_of_several_sizes_and_formats(self, serve):
        """Coloured and grey, JPEG and PNG: each frame is cropped as it is alone."""
        served, picture = serve("ta_vlad"), load_sample_image("china.jpg")
        small = cv2.resize(picture, (60, 90))
        files = [
            cv2.imencode(".jpg", picture[..., 0])[1].tobytes(),
            cv2.imencode(".png", small[..., ::-1])[1].tobytes(),
            cv2.imencode(".jpg", picture[:40, :500, ::-1])[1].tobytes(),
        ]
        images = [tf.io.decode_image(file, channels=3) for file in files]
        assert [image.shape[0] for image in images] == [427, 90, 40]
        crops = [crop_frames(image[tf.newaxis], (32, 32), 40) for image in images]
        expected = served(frames=tf.cast(tf.stack(crops, axis=1), tf.uint8))
        answer = served("encoded_frames", frames=tf.constant([files]))
        assert_answers(answer, expected["probabilities"].numpy(), 1e-6)

    @pytest.mark.slow
    def test_a_whole_clip_is_below_a_megabyte(self, serve):
        served, picture = serve("full_size"), load_sample_image("china.jpg")
        clip = np.stack([picture[y : y + 224, 4 * y : 4 * y + 224] for y in range(25)])[np.newaxis]
        files = tf.constant(encoded(clip, ".jpg", quality=90))
        request = predict_request("encoded_frames", frames=files)
        assert 200_000 < request.ByteSize() < 1_000_000
        decoded = np.stack([[tf.io.decode_image(file).numpy() for file in files.numpy()[0]]])
        expected = served(frames=decoded)
        answer = served("encoded_frames", frames=files)
        np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-6)


def predict_request(signature, **inputs):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "actions"
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.mark.parametrize("signature", ["serving_default", "encoded_frames", "highlight"])
def test_predict_request_and_response(serve, signature):
    from tensorflow_serving.apis import predict_pb2

    served = serve("late")
    clips = files_of(served.clips) if signature == "encoded_frames" else served.clips
    sent = predict_request(signature, **clips).SerializeToString()
    request = predict_pb2.PredictRequest.FromString(sent)
    inputs = {key: tf.constant(tf.make_ndarray(x)) for key, x in request.inputs.items()}
    response = predict_pb2.PredictResponse()
    for key, x in served(request.model_spec.signature_name, **inputs).items():
        response.outputs[key].CopyFrom(tf.make_tensor_proto(x.numpy()))
    received = predict_pb2.PredictResponse.FromString(response.SerializeToString())
    answer = {key: tf.make_ndarray(x) for key, x in received.outputs.items()}
    np.testing.assert_allclose(answer["probabilities"], served.expected, atol=1e-5)
    assert answer["class_names"].astype(str).tolist() == [list(NAMES)] * 2


def test_rest_rows(serve):
    """`instances` with base64 files in, `predictions` of one row a clip out."""
    served = serve("ta_vlad")
    files = files_of(served.clips)["frames"].numpy()
    body = json.dumps(
        {
            "signature_name": "encoded_frames",
            "instances": [
                {"frames": [{"b64": base64.b64encode(file).decode()} for file in clip]}
                for clip in files
            ],
        }
    )

    def plain(value):
        if isinstance(value, dict):
            return base64.b64decode(value["b64"])
        return [plain(item) for item in value]

    request = json.loads(body)
    frames = tf.constant([plain(instance["frames"]) for instance in request["instances"]])
    answer = served(request["signature_name"], frames=frames)
    # Rows need one first size of all outputs.
    rows = [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]
    probabilities = [row["probabilities"].numpy() for row in rows]
    np.testing.assert_allclose(probabilities, served.expected, atol=1e-5)


@cases(["flattened_gru", "plain_lstm"])
def test_recurrence_is_portable(serve, name, monkeypatch):
    """The exporting machine seems to have a GPU; without care Keras writes cuDNN into the graph."""
    served = serve(name)
    definition = (served.folder / "saved_model.pb").read_bytes()
    assert b"CudnnRNN" not in definition
    assert b"api_implements" not in definition
    # A model as it was before the export.
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [kind])
    layer = keras.layers.LSTM(4)
    careless = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 3, 5)))
    assert "CudnnRNNV3" in {op.type for op in careless.graph.get_operations()}


def test_assets(serve):
    folder = serve("ta_vlad").folder
    assert (folder / "assets" / "class_names.txt").read_text() == "run\njump\nsit\n"
    assert (folder / "assets" / "model_card.md").read_text().startswith("# ta_vlad\n")


SCRIPT = """
import sys
import numpy as np
import tensorflow as tf

folder, cases, answers = sys.argv[1:]
loaded = tf.saved_model.load(folder)
given, found = np.load(cases, allow_pickle=True), {}
for name, signature in loaded.signatures.items():
    inputs = {k.split("/")[1]: given[k] for k in given if k.split("/")[0] == name}
    inputs = {k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in inputs.items()}
    for key, value in signature(**inputs).items():
        found[f"{name}/{key}"] = value.numpy()
if {"tfvlad", "export"} & set(sys.modules):
    raise ImportError("tfvlad was imported")
np.savez(answers, **found)
"""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python that has TensorFlow and nothing of ours."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = place / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", f"tensorflow=={tf.__version__}"]
    result = subprocess.run(install, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"TensorFlow cannot be installed: {last}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ta_vlad", "late", "attention_lstm"])
def test_a_venv_of_tensorflow_alone_answers(serve, bare_python, name, tmp_path):
    served = serve(name)
    cases, expected = {}, {}
    for signature, function in served.loaded.signatures.items():
        inputs = {}
        for key, spec in inputs_of(served, signature).items():
            if signature in ("serving_default", "highlight"):
                inputs[key] = served.clips[key]
            elif signature == "encoded_frames":
                inputs[key] = files_of(served.clips)[key].numpy()
            elif spec.dtype == tf.uint8:
                inputs[key] = served.clips["flow" if key == "flow" else "frames"][:, 0]
            else:
                shape = (2, *spec.shape[1:])
                inputs[key] = np.random.default_rng(3).uniform(size=shape).astype("float32")
        tensors = {key: tf.constant(x) for key, x in inputs.items()}
        cases |= {f"{signature}/{key}": x for key, x in inputs.items()}
        expected |= {f"{signature}/{key}": x.numpy() for key, x in function(**tensors).items()}
    np.savez(tmp_path / "cases.npz", **cases)
    (tmp_path / "answer.py").write_text(SCRIPT)
    arguments = [served.folder, tmp_path / "cases.npz", tmp_path / "answers.npz"]
    command = [bare_python, "-I", tmp_path / "answer.py", *arguments]
    result = subprocess.run([str(x) for x in command], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    answers = np.load(tmp_path / "answers.npz", allow_pickle=True)
    assert set(answers) == set(expected)
    for key, value in expected.items():
        if value.dtype == object:
            assert answers[key].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(answers[key], value, atol=1e-5)
