"""The compiled attention of one token to its story is that of torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rfr.generation.kernels import kernels_for

SLOTS, SHARED, ROOM, SCALING = 9, 2, 40, 0.3
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("width", [24, 32, 64, 128])  # the first has no loop of its own
def test_each_slot_attends_to_its_own_story(width: int, group: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(width + group)
    keys, values = (torch.randn(SLOTS, SHARED, ROOM, width, generator=generator).to(dtype) for _ in range(2))
    query = torch.randn(SLOTS, SHARED * group, width, generator=generator).to(dtype)
    key, value = (torch.randn(SLOTS, SHARED, width, generator=generator).to(dtype) for _ in range(2))
    places = torch.tensor([0, 1, 2, 3, 4, 5, 6, 17, ROOM - 1])  # lengths that four at a time leave a rest of

    attended = kernels_for(query.device).attend(query, key, value, keys, values, places, SCALING)

    for slot, place in enumerate(places.tolist()):
        assert torch.equal(keys[slot, :, place], key[slot])
        assert torch.equal(values[slot, :, place], value[slot])
        known, said = (one[slot, :, : place + 1].float().repeat_interleave(group, 0) for one in (keys, values))
        expected = scaled_dot_product_attention(query[slot, :, None].float(), known, said, scale=SCALING)[:, 0]
        assert (attended[slot].float() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()
