"""What tests of large networks share."""

import keras
import pytest
import tensorflow as tf


@pytest.fixture
def zeros_for_weights(monkeypatch):
    """Weights begin with zeros: to draw them takes seconds."""

    def zeros(self, shape, dtype=None, **options):
        return tf.zeros(shape, dtype or "float32")

    for kind in (keras.initializers.GlorotUniform, keras.initializers.HeNormal):
        monkeypatch.setattr(kind, "__call__", zeros)
