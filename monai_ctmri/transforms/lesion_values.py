"""How bright lesions are in CT and in MRI: tables of working ranges, and where they come from."""

from __future__ import annotations

__all__ = ["CT_HU", "HU_SPAN", "MRI_RELATIVE", "SOURCES", "Range"]

HU_SPAN = 80.0
"""Width in HU of the CT window that [0, 1] stands for; the window starts at 0 HU."""

Range = tuple[float, float]

CT_HU: dict[str, dict[str, Range]] = {
    "hemorrhage": {"core": (50, 80), "rim": (10, 20)},
    "infarct": {"early": (-8, -3), "subacute": (-20, -8)},
    "chronic_infarct": {"core": (4, 12), "rim": (-9, -3)},
    "tumour": {"core": (20, 50), "oedema": (10, 25), "necrosis": (5, 15)},
}
"""HU of each part; for the infarct and the rim of the chronic one, change in HU. Working ranges: acute blood and
vasogenic oedema as in textbooks of head CT; early ischaemia after Dzialowski et al., J Neuroimaging 14, 2004. They are
ranges for tests, not measurements of one study."""

MRI_RELATIVE: dict[str, dict[str, dict[str, Range]]] = {
    "hemorrhage": {
        "core": {"T1": (-0.15, 0.0), "T2": (-0.65, -0.4), "PD": (-0.4, -0.2), "FLAIR": (-0.55, -0.25)},
        "rim": {"T1": (-0.25, -0.1), "T2": (0.5, 0.9), "PD": (0.1, 0.3), "FLAIR": (0.4, 0.9)},
    },
    "infarct": {
        "early": {"T1": (-0.05, 0.0), "T2": (0.0, 0.1), "PD": (0.0, 0.05), "FLAIR": (0.0, 0.1)},
        "subacute": {"T1": (-0.3, -0.15), "T2": (0.4, 0.8), "PD": (0.15, 0.35), "FLAIR": (0.4, 0.8)},
    },
    "chronic_infarct": {
        "core": {"T1": (-0.75, -0.6), "T2": (0.9, 1.4), "PD": (0.0, 0.2), "FLAIR": (-0.8, -0.6)},
        "rim": {"T1": (-0.2, -0.1), "T2": (0.3, 0.6), "PD": (0.15, 0.3), "FLAIR": (0.4, 0.8)},
    },
    "tumour": {
        "core": {"T1": (-0.35, -0.15), "T2": (0.2, 0.5), "PD": (0.1, 0.25), "FLAIR": (0.3, 0.6)},
        "oedema": {"T1": (-0.25, -0.1), "T2": (0.55, 0.95), "PD": (0.15, 0.35), "FLAIR": (0.6, 1.0)},
        "necrosis": {"T1": (-0.6, -0.4), "T2": (0.9, 1.4), "PD": (0.2, 0.4), "FLAIR": (-0.1, 0.3)},
    },
}
"""Change relative to the local tissue (-0.3 = 30 % darker). Working ranges that keep the order of signals of
conventional spin-echo imaging (acute blood: Bradley, Radiology 189, 1993); scanners differ more than these ranges do.
PD follows by analogy: free water and oedema a little brighter than tissue, blood darker."""

SOURCES: dict[str, str] = {
    "hemorrhage": "CT: textbook range of acute blood; MRI: Bradley, Radiology 189, 1993; PD by analogy",
    "infarct": "CT: Dzialowski et al., J Neuroimaging 14, 2004, and textbook range; MRI: textbook order of signals; "
    "PD by analogy",
    "early_infarct": "CT: Dzialowski et al., J Neuroimaging 14, 2004; MRI: textbook order of signals; PD by analogy",
    "chronic_infarct": "CT and MRI: core as cerebrospinal fluid (0 to 15 HU), rim of gliosis, textbook order of "
    "signals; PD by analogy",
    "tumour": "CT: textbook range of vasogenic oedema and necrosis; MRI: textbook order of signals; PD by analogy",
}
"""What the values of a kind rest on, for the record of each lesion."""
