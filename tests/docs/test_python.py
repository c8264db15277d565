"""The Python blocks of the pages use the library as it is, and the quick ones are run."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.docs.calls import Checker, Instance
from tests.docs.pages import PAGES, block, blocks
from tests.helpers import tiny_backbone


def known_names() -> dict:
    """What a block may use without saying where it comes from."""
    import export
    import pipelines
    import tfvlad
    import tuning

    packages = {"export": export, "pipelines": pipelines, "tfvlad": tfvlad, "tuning": tuning}
    ours = {"model": Instance(keras.Model), "run": Instance(tfvlad.Run)}
    return {**packages, "keras": keras, "np": np, **ours}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", page)])
def test_names_and_arguments(page):
    checker = Checker(**known_names())
    for one in blocks("python", page):
        checker.check(one.code)


def test_every_page_is_followed():
    checker = Checker(**known_names())
    for one in blocks("python"):
        checker.check(one.code)
    assert checker.num_calls >= 30


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("tfvlad.models.no_model(backbone)", "no_model"),
        ("tfvlad.models.ta_vlad(backbone, 3, clusters=4)", "unexpected keyword argument"),
        ("run = tfvlad.train('videos', 'run', frames=12)", "no setting is named frames"),
        ("tfvlad.load('run').predict('a.mp4')[0].best()", "Prediction has no attribute 'best'"),
        ("tfvlad.models.ta_vlad(backbone)", "missing a required argument: 'num_classes'"),
        ("x = tfvlad.layers.NetVLAD(4, alpha=[tfvlad.layers.SharedGRU()])", "missing a required"),
        ("from pipelines import no_reader", "no_reader"),
        ("import pipelines\nfor _ in pipelines.read_folder('videos').videos: pass", "videos"),
        (
            "for part in pipelines.read_folder('videos').records:\n  part.no_field",
            "VideoRecord has no attribute 'no_field'",
        ),
        ("pipelines.FeatureSet.load('features').no_method()", "no_method"),
    ],
)
def test_what_is_wrong_is_seen(code, message):
    with pytest.raises((AttributeError, TypeError, ImportError), match=message):
        Checker(**known_names()).check(code)


def test_layers():
    names = known_names()
    exec(block("python", "docs/guides/python.md", "The layers in your own model"), names)
    vlad = names["vlad"](np.zeros((2, 3, 5, 7), "float32"))
    assert vlad.shape == (2, 3, 64, 7)
    assert names["states"](vlad).shape == (2, 64, 256)


def test_imported_arrays(tmp_path, monkeypatch, capsys):
    """The example is whole; its training is cut short, and every moment is shown."""
    monkeypatch.chdir(tmp_path)
    # What a training switches on cannot be switched off again: it stays out of this process.
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    code = block("python", "docs/guides/features.md", "Features from elsewhere")
    names = known_names()
    exec(code.replace("max_epochs=30", "max_epochs=1").replace("=1.2", "=0"), names)
    assert names["found"].info.duration_seconds == pytest.approx(24 * 16 / 25)
    line = r"\d+\.\d to \d+\.\d seconds, \d\.\d times the mean\n"
    assert re.fullmatch(f"({line})+", capsys.readouterr().out)


def test_inside():
    from tfvlad.models import ta_vlad

    model = ta_vlad(tiny_backbone(), 3, num_frames=8, num_clusters=4, units=2)
    names = {**known_names(), "model": model, "clips": np.zeros((1, 8, 32, 32, 3), "uint8")}
    exec(block("python", "docs/guides/look-inside.md", "The pictures of any model"), names)
    assert set(names["seen"]) >= {"attention", "assignments", "descriptor"}
    assert len(names["figure"].axes) >= 12


def test_streaming():
    from tfvlad.models import average_pooling

    names = known_names()
    names["model"] = average_pooling(tiny_backbone(), 3, num_frames=4)
    names["frames"] = np.zeros((5, 32, 32, 3), "uint8")
    exec(block("python", "docs/guides/live.md", "Frame by frame on a phone or a server"), names)
    assert names["outputs"]["scores"].shape == (1, 3)
    assert float(names["states"]["num_frames"][0, 0]) == 5
