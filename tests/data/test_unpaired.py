"""Draws of unpaired pictures: never a pair, everyone used, repeatable, and the item says what it is."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import RandomizableTransform

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.unpaired import UnpairedDataset, unpaired_datalist
from monai_ctmri.errors import InputError


def prepare(item):
    """A picture of its own number in its modality's channel; the other one is absent."""
    image = torch.zeros(2, 4, 4)
    name = "ct" if "ct" in item else "mri"
    image[("ct", "mri").index(name)] = float(Path(item[name]).stem)
    return {"image": image, "case": item["case"], "subject": item["subject"]}


class AddNoise(RandomizableTransform):
    def __call__(self, item):
        return {**item, "image": item["image"] + float(self.R.uniform())}


def entries(cts, mris):
    """Entries from (number, subject) of each modality."""
    return [
        {"case": f"{name}{number}", "subject": subject, "label": -1, name: f"{number}.png"}
        for name, given in (("ct", cts), ("mri", mris))
        for number, subject in given
    ]


def pairs_apart(count):
    """The pictures of paired cases: CT and MRI of a case share name and subject."""
    return [
        {"case": f"p{i}", "subject": f"s{i // 2}", "label": 0, name: f"{i + 1}.png"}
        for i in range(count)
        for name in ("ct", "mri")
    ]


def test_an_item_says_whose_pictures_it_holds():
    data = UnpairedDataset(entries([(1, "a"), (2, "b"), (3, "c")], [(11, "d"), (12, "e")]), prepare)
    assert len(data) == 3
    for index in range(3):
        item = data[index]
        assert item["paired"] is False
        assert item["image"].shape == (2, 4, 4)
        ct, mri = (int(item["image"][channel, 0, 0]) for channel in (0, 1))
        assert ct == index + 1
        assert (item["ct_case"], item["mri_case"]) == (f"ct{ct}", f"mri{mri}")
        assert item["case"] == f"ct{ct} with mri{mri}"
        assert item["ct_subject"] == "abc"[index]
        assert item["mri_subject"] == {11: "d", 12: "e"}[mri]


def test_the_longer_list_leads_whichever_it_is():
    data = UnpairedDataset(entries([(1, "a")], [(11, "d"), (12, "e"), (13, "f")]), prepare)
    assert [data[i]["mri_case"] for i in range(len(data))] == ["mri11", "mri12", "mri13"]
    assert {data[i]["ct_case"] for i in range(len(data))} == {"ct1"}


def test_no_pair_comes_together_again():
    data = UnpairedDataset(pairs_apart(12), prepare)
    for seed in range(20):
        data.set_random_state(seed)
        for item in (data[i] for i in range(len(data))):
            assert item["ct_case"] != item["mri_case"]
            assert item["ct_subject"] != item["mri_subject"]


def test_of_one_subject_another_case_is_taken():
    items = [{**item, "subject": "only"} for item in pairs_apart(4)]
    data = UnpairedDataset(items, prepare)
    assert all(item["ct_case"] != item["mri_case"] for item in (data[i] for i in range(len(data))))


def test_a_single_pair_is_refused():
    with pytest.raises(InputError, match="no other case"):
        UnpairedDataset(pairs_apart(1), prepare)


def test_one_modality_alone_is_refused():
    with pytest.raises(InputError, match="no mri"):
        UnpairedDataset(entries([(1, "a")], []), prepare)


def test_partners_are_used_equally_often():
    data = UnpairedDataset(
        entries([(i, f"a{i}") for i in range(1, 31)], [(i, f"b{i}") for i in range(101, 111)]), prepare
    )
    used = Counter(data[i]["mri_case"] for i in range(len(data)))
    assert set(used.values()) == {3}


def test_seeds_decide_the_partners():
    data = UnpairedDataset(
        entries([(i, f"a{i}") for i in range(1, 21)], [(i, f"b{i}") for i in range(101, 121)]), prepare
    )

    def drawn(seed):
        data.set_random_state(seed)
        return [data[i]["case"] for i in range(len(data))]

    assert drawn(5) == drawn(5) != drawn(6)
    again = UnpairedDataset(data.data, prepare, seed=3)
    twin = UnpairedDataset(data.data, prepare, seed=3)
    assert again.partners == twin.partners
    assert [again[i]["case"] for i in range(3)] == [again[i]["case"] for i in range(3)]


def test_random_transforms_follow_the_seed():
    from monai.transforms import Compose

    data = UnpairedDataset(pairs_apart(6), Compose([prepare, AddNoise()]))

    def seen(seed):
        data.set_random_state(seed)
        return torch.stack([data[i]["image"] for i in range(len(data))])

    assert torch.equal(seen(1), seen(1))
    assert not torch.equal(seen(1) % 1, seen(2) % 1)


def test_workers_share_the_draw_of_the_main_process():
    data = UnpairedDataset(
        entries([(i, f"a{i}") for i in range(1, 9)], [(i, f"b{i}") for i in range(101, 109)]), prepare
    )
    data.set_random_state(4)
    expected = [data[i]["case"] for i in range(len(data))]
    loader = DataLoader(data, batch_size=2, num_workers=2)
    assert [case for batch in loader for case in batch["case"]] == expected


def manifest(*rows):
    return Manifest(
        [
            Case(
                name=f"c{number}",
                subject=subject,
                ct=Path(ct) if ct else None,
                mri=Path(mri) if mri else None,
                split=split,
            )
            for number, (ct, mri, subject, split) in enumerate(rows)
        ]
    )


def test_datalist_takes_pairs_apart():
    cases = manifest(("/d/1.png", "/d/2.png", "a", "train"), ("/d/3.png", None, "b", "train"))
    found = unpaired_datalist(cases, "train")
    assert [("ct" in item, "mri" in item) for item in found] == [(True, False), (False, True), (True, False)]
    assert {item["subject"] for item in found} == {"a", "b"}
    assert all({"case", "label"} <= set(item) for item in found)


def test_datalist_falls_back_when_a_modality_is_missing(caplog):
    cases = manifest(
        ("/d/1.png", None, "a", "train"), (None, "/d/2.png", "b", "train"), ("/d/3.png", None, "c", "validation")
    )
    with caplog.at_level(logging.WARNING):
        found = unpaired_datalist(cases, "validation", fallback="train")
    assert {item["subject"] for item in found} == {"a", "b"}
    assert "has no mri" in caplog.text
    with pytest.raises(InputError, match="has no mri"):
        unpaired_datalist(cases, "validation")
    with pytest.raises(InputError, match="no ct and no mri"):
        unpaired_datalist(cases, "test")
