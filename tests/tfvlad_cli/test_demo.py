"""`tfvlad demo`: what it prints."""

import json
from pathlib import Path
from unittest import mock

import numpy as np

from tests.tfvlad_cli.commands import tfvlad
from tfvlad.evaluation import evaluate_scores
from tfvlad.studies import Demo

REPORT = evaluate_scores(np.eye(3), np.array([0, 1, 1]), ["a", "b", "c"])
MADE = Demo(Path("output/seed0"), {"TA-VLAD": REPORT}, (Path("output/seed0/attention.png"),))


def test_options_table_and_json():
    with mock.patch("tfvlad.studies.demo", return_value=MADE) as called:
        text = tfvlad("demo", "output").output
        result = tfvlad("demo", "output", "--seed", 4, "--json")
    assert called.call_args_list == [mock.call("output"), mock.call("output", seed=4)]
    assert "TA-VLAD" in text
    assert "66.7 [" in text
    assert "output/seed0/attention.png" in text
    assert json.loads(result.output) == {"TA-VLAD": REPORT.metrics}
