"""Fixtures and markers of all tests. Light: nothing here imports TensorFlow."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PROJECT = Path(__file__).resolve().parent.parent
KERAS_MAJOR = int(importlib.metadata.version("keras").split(".")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    has_addons = importlib.util.find_spec("tensorflow_addons") is not None
    for item in items:
        if KERAS_MAJOR < 3 and item.get_closest_marker("current"):
            item.add_marker(pytest.mark.skip(reason="needs the current stack (Keras 3)"))
        if not has_addons and item.get_closest_marker("addons"):
            item.add_marker(pytest.mark.skip(reason="needs the addons stack (tensorflow-addons)"))


def pytest_collection_finish() -> None:
    """The collector passes over what was imported: Keras calls it between models, in vain."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state, alone or in the whole suite."""
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real videos and weights; tests that ask for it are skipped without it."""
    folder = Path(os.environ.get("TFVLAD_DATA", PROJECT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set TFVLAD_DATA to the folder)")
    return folder


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """TensorFlow's functions are not traced: faster where a test calls each a few times only."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def traced(eagerly: None) -> Iterator[None]:
    """One test of a module with `eagerly` whose functions are traced."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """`resnet18` names a network of two convolutions: for tests of all that lies around it."""
    from tests.helpers import small_resnet
    from tfvlad.backbones.catalog import BACKBONES

    with mock.patch.dict(BACKBONES, resnet18=small_resnet):
        yield
