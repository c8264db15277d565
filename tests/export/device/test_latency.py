from export import ClipModel, litert_latency_ms
from export.device import latency
from tests.helpers import tiny_backbone
from tfvlad.models import action_vlad


def test_it_is_the_median_of_the_clips(monkeypatch):
    model = action_vlad(tiny_backbone(), 2, num_frames=2, num_clusters=2)
    seen = []
    run_artifact = latency.run_artifact

    def spy(path, clips, num_threads):
        answers, seconds = run_artifact(path, clips, num_threads)
        seen.extend(seconds)
        return answers, seconds

    monkeypatch.setattr(latency, "run_artifact", spy)
    found = litert_latency_ms(ClipModel(model, ("a", "b"), short_side=32), num_clips=3)
    assert len(seen) == 3
    assert found == 1000 * sorted(seen)[1] > 0
