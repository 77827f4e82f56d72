"""The history of generated images: half of what is shown comes from the past, and it continues after a stop."""

from __future__ import annotations

import pytest
import torch

from monai_ctmri.engines.image_pool import ImagePool


def numbered(start, count):
    return torch.arange(start, start + count, dtype=torch.float32).reshape(count, 1, 1, 1).expand(count, 2, 3, 3)


def shown(pool, start, count):
    return pool(numbered(start, count))[:, 0, 0, 0].int().tolist()


def test_fills_first_and_shows_what_is_new():
    pool = ImagePool(5)
    assert shown(pool, 0, 3) == [0, 1, 2]
    assert shown(pool, 3, 2) == [3, 4]
    assert len(pool.images) == 5


def test_half_is_from_the_past():
    pool, count = ImagePool(10), 4000
    shown(pool, 0, 10)
    seen = shown(pool, 10, count)
    old = sum(one != new for one, new in zip(seen, range(10, 10 + count), strict=True))
    assert abs(old / count - 0.5) < 4 * 0.5 / count**0.5  # four standard deviations of a fair coin


def test_what_is_shown_leaves_the_pool_and_the_new_one_takes_its_place():
    pool = ImagePool(4)
    shown(pool, 0, 4)
    for new in range(4, 60):
        before = {int(image[0, 0, 0]) for image in pool.images}
        (one,) = shown(pool, new, 1)
        after = {int(image[0, 0, 0]) for image in pool.images}
        assert after == (before if one == new else before - {one} | {new})
        assert one in before | {new}


def test_every_place_is_used():
    pool = ImagePool(6, seed=1)
    shown(pool, 0, 6)
    seen = shown(pool, 6, 200)
    assert set(range(6)) <= set(seen)


def test_no_gradient_flows_back():
    images = torch.rand(2, 1, 4, 4, requires_grad=True)
    assert not ImagePool(1)(2 * images).requires_grad


def test_kept_images_are_copies():
    pool, images = ImagePool(2), torch.zeros(2, 1, 2, 2)
    pool(images)
    images += 1
    assert all((image == 0).all() for image in pool.images)


def test_size_zero_shows_the_new_ones():
    pool = ImagePool(0)
    assert shown(pool, 0, 20) == list(range(20))
    assert pool.images == []
    with pytest.raises(ValueError, match="negative"):
        ImagePool(-1)


def test_does_not_touch_the_random_numbers_of_the_process():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    shown(ImagePool(2), 0, 30)
    assert torch.equal(torch.rand(2), expected)


def test_same_seed_same_choice_other_seed_another():
    runs = []
    for seed in (1, 1, 2):
        pool = ImagePool(5, seed)
        runs.append(shown(pool, 0, 60))
    assert runs[0] == runs[1] != runs[2]


def test_continues_from_its_state(tmp_path):
    whole, first = ImagePool(5, 7), ImagePool(5, 7)
    shown(whole, 0, 20)
    shown(first, 0, 20)
    torch.save(first.state_dict(), tmp_path / "pool.pt")
    second = ImagePool(5, 99)
    second.load_state_dict(torch.load(tmp_path / "pool.pt", weights_only=True))
    assert shown(second, 20, 40) == shown(whole, 20, 40)


def test_state_of_another_kind_is_refused():
    with pytest.raises(KeyError):
        ImagePool().load_state_dict({})


def test_a_smaller_pool_takes_the_first_images():
    pool, smaller = ImagePool(5), ImagePool(2)
    shown(pool, 0, 5)
    smaller.load_state_dict(pool.state_dict())
    assert [int(image[0, 0, 0]) for image in smaller.images] == [0, 1]
    shown(smaller, 5, 30)
    assert len(smaller.images) == 2
