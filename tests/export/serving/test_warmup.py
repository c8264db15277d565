"""The warm-up file: TensorFlow Serving's own messages, each fit for its signature."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from export.serving.signatures import build_signatures
from export.serving.warmup import write_warmup_requests
from tests.export.serving.serving_cases import made


@pytest.mark.parametrize("name", ["ta_vlad", "late", "plain_lstm"])
def test_every_request_feeds_its_signature(name, tmp_path):
    clip_model = made(name)
    signatures, _ = build_signatures(clip_model)
    path = tmp_path / "tf_serving_warmup_requests"
    write_warmup_requests(path, clip_model, {key: x.inputs for key, x in signatures.items()})
    seen = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == clip_model.model.name
        signature = signatures[request.model_spec.signature_name]
        inputs = {key: tf.constant(tf.make_ndarray(x)) for key, x in request.inputs.items()}
        assert set(inputs) == set(signature.inputs)
        for key, spec in signature.inputs.items():
            assert spec.is_compatible_with(inputs[key])
        answer = signature.function(inputs)
        assert answer["probabilities"].shape == (1, 3)
        assert np.isfinite(answer["probabilities"]).all()
        seen.append(request.model_spec.signature_name)
    assert seen == list(signatures)
    assert path.stat().st_size < 20_000
