import re

import numpy as np
import pytest

from tests.helpers import normal
from tfvlad.layers import ChannelSlice


def test_values():
    x = normal(2, 3, 7)
    np.testing.assert_array_equal(ChannelSlice(2, 6)(x), x[..., 2:6])


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (3, 1), (-1, 2)])
def test_wrong_channels(start, stop):
    message = (
        "`start` and `stop` must be channels with start < stop. "
        f"Received: start={start}, stop={stop}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        ChannelSlice(start, stop)


@pytest.mark.parametrize("shape", [(None, 5), (2, 3, None)])
def test_too_few_channels(shape):
    message = f"`ChannelSlice` needs inputs of at least 6 channels. Received: shape={shape}."
    with pytest.raises(ValueError, match=re.escape(message)):
        ChannelSlice(2, 6).build(shape)
