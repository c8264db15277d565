"""A run: a trained model in its folder, and all that can be asked of it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pipelines.video.codec.encoding import check_new_video
from pipelines.video.codec.live import LiveFrames
from pipelines.video.index import BrokenVideo
from tfvlad.highlights import ChunkModel, VideoHighlights, highlight
from tfvlad.highlights.several_videos import highlight_videos, video_folders
from tfvlad.live import Watch, watch
from tfvlad.models import ClipModel
from tfvlad.runs.answers.clip_models import clip_model
from tfvlad.runs.answers.highlighting import chunk_model
from tfvlad.runs.answers.pictures import Pictures, show_clips
from tfvlad.runs.answers.predictions import Predictions, named_videos, predict_videos
from tfvlad.runs.answers.testing import Evaluation, check_controls, clips_of_test, evaluate_run
from tfvlad.runs.answers.watching import training_rate
from tfvlad.runs.config import with_settings
from tfvlad.runs.run_folder import RunFolder
from tfvlad.runs.settings.views import with_views


class Run(RunFolder):
    """A training in a folder, and what its model answers.

    The model is loaded when it is first needed.

    Args:
        folder: that `tfvlad.train` has written.

    Attributes:
        folder: of the run.
        config: what the training was asked for, and what it found in its data.

    Raises:
        ValueError: when it is no run folder.

    Example:
        >>> run = tfvlad.load("runs/kick")
        >>> run.predict(["a.mp4"])[0].top(3)
    """

    def predict(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    ) -> Predictions:
        """Name the action in videos.

        Args:
            paths: video files or frame folders; of optical flow, for a model that sees it alone; or
                arrays, for a model of imported ones.

        Returns:
            The predictions of the videos that can be decoded, and beside them the broken ones.

        Raises:
            ValueError: when there is no such video, or the run's training has not come to its end.
        """
        named = named_videos(paths)
        return predict_videos(self.config, self.model, named)

    def evaluate(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        lists: str | os.PathLike[str] | None = None,
        split: int | None = None,
        flow: str | os.PathLike[str] | None = None,
        attended: str | os.PathLike[str] | None = None,
        test_crops: int = 1,
        test_clips: int = 1,
        one_bag: bool = False,
        test_chunks: int = 40,
        controls: bool = False,
        output: str | os.PathLike[str] | None = None,
        max_broken: int | None = None,
    ) -> Evaluation:
        """Test the model on its own test list, or on other labelled clips.

        Args:
            data: clips, named as for `tfvlad.train`; all of them are tested. By default the run's
                own test list.
            lists: official lists of the clips in `data`, whose test list is taken.
            split: number of the official split of `lists`; the run's by default.
            flow: optical flow of the videos in `data`, for a two-stream model.
            attended: feature set that the attention LSTM attends to, where `data` is that of its
                input.
            test_crops: see `VideoSettings`.
            test_clips: see `VideoSettings`.
            one_bag: see `VideoSettings`.
            test_chunks: see `FeatureSettings`.
            controls: whether order matters: the clips are tested with their frames, or steps of
                features, shuffled (drawn from the run's seed and the clip's name alone), reversed,
                and all of them the middle one too. Stacks of optical flow are reversed as a whole:
                their order is, the flow in them is not computed backwards.
            output: folder for what is found; `evaluation` in the run's by default.
            max_broken: see `tfvlad.train`.

        Raises:
            ValueError: when an argument has no effect on the run, or the clips do not fit it.

        Example:
            >>> test = run.evaluate(controls=True)
            >>> test.controls
        """
        if controls:
            check_controls(self.settings)
        paths = clips_of_test(self.config, data, lists, split, flow, attended)
        settings = with_views(
            self.settings,
            test_crops=test_crops,
            test_clips=test_clips,
            one_bag=one_bag,
            test_chunks=test_chunks,
        )
        return evaluate_run(
            self.folder,
            with_settings(self.config, settings),
            self.model,
            paths,
            output=self.folder / "evaluation" if output is None else Path(output),
            max_broken=max_broken,
            controls=controls,
        )

    @functools.cached_property
    def chunk_model(self) -> ChunkModel:
        """The model on chunks of long videos, see `tfvlad.highlights`.

        Raises:
            ValueError: when the model gives no weights to frames, or the run does not say how long
                its training clips are.
        """
        return chunk_model(self.folder, self.config, self.model, self.clip_frames)

    @functools.cached_property
    def clip_model(self) -> ClipModel:
        """The model on clips of frames, with its classes and its preprocessing.

        A model of features stands behind the networks that extract them.

        Raises:
            ValueError: when the weights of such a network are missing or are others now.
        """
        return clip_model(self.folder, self.config, self.model)

    def highlight(
        self, path: str | os.PathLike[str], *, class_name: str | None = None, threshold: float = 1.5
    ) -> VideoHighlights:
        """Find when the action happens in a video of any length.

        Args:
            path: video file; or the file of an array, for a model of imported ones.
            class_name: class that is highlighted; by default the most probable one of the video.
            threshold: multiple of the video's mean score from which a moment stands out.

        Raises:
            ValueError: when there is no such class, `threshold` is negative, or the run has no
                `chunk_model`.
            BrokenVideoError: when the video cannot be decoded, or the array cannot be used; the
                message names it.

        Example:
            >>> found = run.highlight("match.mp4")
            >>> found.moments
            >>> found.save("highlights/match")
        """
        return highlight(self.chunk_model, path, class_name, threshold)

    def highlight_all(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        *,
        class_name: str | None = None,
        threshold: float = 1.5,
        clip: bool = False,
        max_seconds: float | None = None,
    ) -> Iterator[tuple[Path, VideoHighlights | BrokenVideo]]:
        """Highlight videos one after the other, and save what is found: see `highlight`.

        Args:
            paths: video files, or arrays for a model of imported ones.
            output: folder that gets a folder for each video: its name without the ending.
            class_name: class that is highlighted; by default the most probable one of each video.
            threshold: multiple of a video's mean score from which a moment stands out.
            clip: cut the moments out into highlight.mp4, where there are any.
            max_seconds: longest clip, 30 seconds by default.

        Yields:
            The folder of each video, and its highlights or why it cannot be decoded. The videos
            that cannot be opened come first: a wrong one is told before the long work begins.

        Raises:
            ValueError: when a video does not exist, two have the same name, a folder holds other
                things, an argument is out of range or has no effect, or the run has no
                `chunk_model`.

        Example:
            >>> for folder, found in run.highlight_all(["a.mp4", "b.mp4"], "highlights/"):
            ...     print(folder, found)
        """
        named = named_videos(paths)
        folders = video_folders(named, output)  # before the model is loaded
        return highlight_videos(
            self.chunk_model,
            folders,
            class_name=class_name,
            threshold=threshold,
            clip=clip,
            max_seconds=max_seconds,
        )

    def show(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        what: str | Sequence[str] | None = None,
        word: int | None = None,
        num_videos: int | None = None,
    ) -> Pictures:
        """Pictures of what the model sees.

        Of each video, of the test list eight: `attention` (where the model looks after stage 1 and
        after stage 2), `words` (the action word of each location) and `track` (one word over time).
        Of all videos: `words` (regions assigned to the words that the model uses most),
        `tsne_features` (locations of the feature maps, coloured by video) and `tsne_descriptors`
        (coloured by class, of `paths` the predicted one).

        Args:
            paths: videos; by default those of the run's own test list.
            what: one or several of "attention", "words", "track" and "embedding"; by default all
                that the model has.
            word: action word to track, from 0; by default the one with the largest share of each
                video.
            num_videos: most videos of the test list, spread evenly over it; 60 by default.

        Returns:
            The figures by their names, such as "kick/a/attention", and the broken videos.

        Raises:
            ValueError: when the run cannot be drawn, what was asked for cannot be drawn, or there
                is no such word.
            BrokenVideoError: when none of the videos can be decoded.
        """
        named = None if paths is None else named_videos(paths)
        return show_clips(
            self.folder,
            self.config,
            self.model,
            named,
            what=what,
            word=word,
            num_videos=num_videos,
        )

    def attention(self, path: str | os.PathLike[str]) -> Figure:
        """Where the model looks in a video, after stage 1 and after stage 2.

        Raises:
            ValueError: when the model has no spatial attention, or the run cannot be drawn.
            BrokenVideoError: when the video cannot be decoded.
        """
        (figure,) = self.show(path, what="attention").values()
        return figure

    def watch(
        self,
        source: str | os.PathLike[str] | int | LiveFrames,
        *,
        frames_per_second: float | None = None,
        memory_seconds: float | None = None,
        seconds: float | None = None,
        output: str | os.PathLike[str] | None = None,
    ) -> Watch:
        """Name the action in a live video as it happens.

        The newest frame is what counts: a machine that is too slow drops frames instead of lagging
        behind.

        Args:
            source: camera (its number or device), URL (rtsp, http, hls) or video file, which plays
                in real time. Or `pipelines.LiveFrames` that were opened already.
            frames_per_second: most frames that the model looks at in a second; by default as close
                together as in the training clips (videos of 25 frames a second), which it knows
                movements from.
            memory_seconds: half-life of a frame in a model that sums over time; 2 by default.
            seconds: end after that time; by default with the source.
            output: MP4 file to write: what the model saw, with the most probable action and, where
                the model has top-down attention, where it looked.

        Returns:
            An iterator over moments, one for each frame that the model looks at. Use it as a
            context manager, or `close` it, where the loop may be left before its end.

        Raises:
            ValueError: when an argument is out of range or does not suit the model, the run sees
                optical flow, or there is such a file as `output`.
            BrokenVideoError: when the source cannot be opened, or breaks while it is watched.

        Example:
            >>> with run.watch(0) as moments:
            ...     for moment in moments:
            ...         print(moment.top(1))
        """
        check_new_video(output)  # before the model is loaded
        if frames_per_second is None:
            frames_per_second = training_rate(self.folder, self.config, self.clip_frames)
        return watch(
            self.clip_model,
            source,
            frames_per_second=frames_per_second,
            memory_seconds=memory_seconds,
            seconds=seconds,
            output=output,
        )


def load(folder: str | os.PathLike[str]) -> Run:
    """A run by its folder.

    Raises:
        ValueError: when it is no run folder.
    """
    return Run(folder)
