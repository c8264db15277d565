"""VLAD pooling: the factored sum against the residual tensor and a loop over the clusters.

All three compute `V[k] = sum_i a_k(x_i) (x_i - c_k)` with the same assignments. Time is measured in
turns in one process, peak memory of one training step in a process of its own for each form, beyond
what that process held before the step.

    python benchmarks/vlad.py --quick --json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from measure import alternating_medians

from tfvlad import ops

BATCH = 2
CHANNELS = 512
FULL = [(K, N) for K in (16, 64, 256) for N in (196, 1225, 4900)]
QUICK = [(64, 4900)]
# 10 GiB for one tensor: the residual form is not run beyond it.
MAX_RESIDUAL_BYTES = 10 * 2**30


def factored(features: tf.Tensor, assignments: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
    return ops.aggregate_residuals(features, assignments, centers)


def residual(features: tf.Tensor, assignments: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
    differences = features[:, :, tf.newaxis] - centers  # (B, N, K, D)
    return tf.reduce_sum(assignments[..., tf.newaxis] * differences, axis=1)


def loop(features: tf.Tensor, assignments: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
    clusters = zip(tf.unstack(assignments, axis=-1), tf.unstack(centers), strict=True)
    sums = [tf.reduce_sum(a[..., tf.newaxis] * (features - c), axis=1) for a, c in clusters]
    return tf.stack(sums, axis=1)


FORMS = {"factored": factored, "residual": residual, "loop": loop}


def make_steps(
    form: str, num_clusters: int, num_features: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A forward pass and a training step (forward and backward) of one form."""
    generator = tf.random.Generator.from_seed(0)
    features = ops.l2_normalize(generator.normal((BATCH, num_features, CHANNELS)))
    initial_centers = ops.l2_normalize(generator.normal((num_clusters, CHANNELS)))
    centers = tf.Variable(initial_centers)
    kernel = tf.Variable(2000 * tf.transpose(initial_centers))
    bias = tf.Variable(tf.fill([num_clusters], -1000.0))
    weights = [centers, kernel, bias]

    @tf.function
    def encode(features: tf.Tensor) -> tf.Tensor:
        vlad = FORMS[form](features, ops.soft_assign(features, kernel, bias), centers)
        return ops.l2_normalize(ops.flatten_clusters(ops.intra_normalize(vlad)))

    @tf.function
    def train(features: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(encode(features) ** 3)
        return tape.gradient(loss, [features, *weights])

    return lambda: encode(features).numpy(), lambda: train(features)[0].numpy()


def peak_mib(form: str, num_clusters: int, num_features: int) -> float:
    """Peak memory of a training step beyond what the process held before, in MiB."""
    _, warm_up = make_steps(form, 2, 16)
    warm_up()
    _, train = make_steps(form, num_clusters, num_features)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def forms_for(num_clusters: int, num_features: int) -> list[str]:
    residual_bytes = 4 * BATCH * num_features * num_clusters * CHANNELS
    return [form for form in FORMS if form != "residual" or residual_bytes < MAX_RESIDUAL_BYTES]


def measure_memory(num_clusters: int, num_features: int) -> dict[str, float]:
    """Peak MiB of each form; to be called before this process runs its first operation."""
    memory = {}
    for form in forms_for(num_clusters, num_features):
        # A fork spares each process the import of TensorFlow, whose threads do not run yet.
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
            memory[form] = process.submit(peak_mib, form, num_clusters, num_features).result()
    return memory


def measure_time(
    num_clusters: int, num_features: int, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a forward pass and of a training step of each form."""
    steps = {
        form: make_steps(form, num_clusters, num_features)
        for form in forms_for(num_clusters, num_features)
    }
    # Of the slow forms, a first call is hardly slower than the next.
    for step in steps["factored"]:
        step()
    forward, train = (
        alternating_medians({form: steps[form][n] for form in steps}, repeats, warmups=0)
        for n in range(2)
    )
    return forward, train


def make_row(
    num_clusters: int,
    num_features: int,
    forward: dict[str, float],
    train: dict[str, float],
    memory: dict[str, float],
) -> dict[str, float]:
    """Milliseconds and MiB of each form, and their ratios to the factored form."""
    row: dict[str, float] = {"num_clusters": num_clusters, "num_features": num_features}
    for form in forward:
        row[f"{form}_forward_ms"] = 1000 * forward[form]
        row[f"{form}_train_ms"] = 1000 * train[form]
        row[f"{form}_memory_mib"] = memory[form]
    for form in forward:
        if form != "factored":
            prefix = "" if form == "residual" else "loop_"
            row[f"{prefix}forward_ratio"] = forward[form] / forward["factored"]
            row[f"{prefix}train_ratio"] = train[form] / train["factored"]
            row[f"{prefix}memory_ratio"] = memory[form] / max(memory["factored"], 1.0)
    return {key: round(value, 2) for key, value in row.items()}


def print_row(row: dict[str, float]) -> None:
    print(f"\nK={row['num_clusters']} N={row['num_features']} D={CHANNELS} batch {BATCH}")
    print(f"{'':10}{'forward ms':>12}{'train ms':>12}{'peak MiB':>12}")
    for form in FORMS:
        if f"{form}_forward_ms" in row:
            cells = (row[f"{form}_{what}"] for what in ("forward_ms", "train_ms", "memory_mib"))
            print(f"{form:10}" + "".join(f"{cell:12.1f}" for cell in cells))
    for prefix in ("", "loop_"):
        if f"{prefix}forward_ratio" in row:
            cells = (row[f"{prefix}{what}_ratio"] for what in ("forward", "train", "memory"))
            name = f"{prefix.rstrip('_') or 'residual'} / f."
            print(f"{name:10}" + "".join(f"{cell:11.1f}x" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="K=64, N=4900 only (under 40 s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    sizes, repeats = (QUICK, 2) if arguments.quick else (FULL, 5)
    memory = {size: measure_memory(*size) for size in sizes}
    rows = []
    for size in sizes:
        rows.append(make_row(*size, *measure_time(*size, repeats), memory[size]))
        print_row(rows[-1])
    if arguments.json:
        # The ratios asked for are those of K=64, N=4900.
        named = next(row for row in rows if (row["num_clusters"], row["num_features"]) in QUICK)
        print(json.dumps({**named, "rows": rows}))


if __name__ == "__main__":
    main()
