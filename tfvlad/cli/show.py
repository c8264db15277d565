"""`tfvlad show`: pictures of what a trained model sees."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipelines.records import VideoRecord
    from pipelines.video_index import BrokenVideo
    from tfvlad.cli.run_folder import RunConfig
    from tfvlad.training import ClipSource

PICTURES = ("attention", "words", "track", "embedding")


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("videos", nargs=-1, type=click.Path(exists=True))
@click.option("--output", type=click.Path(file_okay=False), help="RUN/pictures by default.")
@click.option(
    "--what",
    multiple=True,
    type=click.Choice(PICTURES),
    help="May be repeated; by default all that the model has.",
)
@click.option(
    "--word",
    type=click.IntRange(min=0),
    help="Action word to track, from 0; by default the one with the largest share of each video.",
)
@click.option(
    "--num-videos",
    default=60,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most videos of the run's test list, spread evenly over it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(
    run: str,
    videos: tuple[str, ...],
    output: str | None,
    what: tuple[str, ...],
    word: int | None,
    num_videos: int,
    as_json: bool,
) -> None:
    """Draw what the model of RUN sees in VIDEOS, or in videos of the run's own test list.

    Each video, of the test list eight, gets a folder with attention.png (where the model looks
    after stage 1 and after stage 2), words.png (the action word of each location) and track.png
    (one word over time). Beside them, of all videos: words.png (regions assigned to the words that
    the model uses most), tsne_features.png (locations of the feature maps, coloured by video) and
    tsne_descriptors.png (coloured by class; of VIDEOS, the predicted one).

    A video that cannot be decoded is named, the others are drawn, and the exit code is 1.

    \b
    Example:
      tfvlad show run/ clip.mp4 --output pictures/ --what attention --what track
    """
    from tfvlad.cli.data import clip_names, refuse_options
    from tfvlad.cli.pictures import choose, draw, load_first_stage, look
    from tfvlad.cli.run_folder import load_model

    folder = Path(run)
    config = _load_config(folder)
    if videos:
        refuse_options({"num_videos"}, "named VIDEOS")
    records = () if videos else _test_records(folder, config, num_videos)
    model = load_model(folder)
    chosen = choose(model, what, len(videos or records))
    first_stage = load_first_stage(folder) if "attention" in chosen else None
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as temporary:
        source, kept, broken = _read(config, videos, records, Path(temporary))
        labels = [[config.class_names[i] for i in record.labels] for record in kept]
        classes = None if videos else ["|".join(found) for found in labels]
        seen = look(model, first_stage, source, clip_names(kept), classes)
    place = Path(output) if output else folder / "pictures"
    written = []
    for path, figure in draw(seen, chosen, word, draw_all=bool(videos)):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place / path, dpi=150)
        written.append(str(place / path))
        if not as_json:
            click.echo(written[-1])
    if as_json:
        unread = [{"path": video.path, "reason": video.reason} for video in broken]
        click.echo(json.dumps({"pictures": written, "broken": unread}))
    for video in broken:
        click.echo(f"tfvlad: {video.path}: {video.reason}", err=True)
    sys.exit(1 if broken else 0)


def _load_config(folder: Path) -> RunConfig:
    from tfvlad.cli.run_folder import FeatureRunConfig, load_config

    config = load_config(folder)
    if isinstance(config, FeatureRunConfig):
        raise ValueError(
            f"'{folder}' is a run on features, without frames to draw on. Give a run on videos, or "
            "`tfvlad highlight` for the attention of an attention LSTM over time."
        )
    if len(config.streams) > 1:
        raise ValueError(
            f"'{folder}' is a run of two streams. Give a run of one: `tfvlad show` draws a single "
            "stream."
        )
    return config


def _test_records(folder: Path, config: RunConfig, most: int) -> tuple[VideoRecord, ...]:
    """Some of the run's test list."""
    from tfvlad.cli.data import read_lists
    from tfvlad.cli.pictures import spread

    records = read_lists(folder / "lists.csv", "test", config.class_names)
    return tuple(records[i] for i in spread(len(records), most))


def _read(
    config: RunConfig, videos: tuple[str, ...], records: tuple[VideoRecord, ...], place: Path
) -> tuple[ClipSource, tuple[VideoRecord, ...], list[BrokenVideo]]:
    """The clips of the named videos or of the records, and which can and cannot be decoded."""
    from pipelines.records import VideoRecord
    from tfvlad.cli.clip_sources import (
        clip_source,
        index_streams,
        leave_out_broken,
        source_of_videos,
    )
    from tfvlad.training.streams import streams_of

    if videos:
        found, good, broken = source_of_videos(config, videos, place)
        if found is None:
            raise ValueError(f"No video can be decoded: {broken[0].path} ({broken[0].reason}).")
        kept = tuple(VideoRecord(path, (0,)) for path in good)
    else:
        indexes = index_streams(config, records, place)
        kept, broken = leave_out_broken(config, records, indexes, len(records))
        found = clip_source(config, kept, indexes)
    (source,) = streams_of(found)
    return source, kept, broken
