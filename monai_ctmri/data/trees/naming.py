"""What names say: modality, contrast, label, mask, patient. Whole words only; a part of a word says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from monai_ctmri import keys

__all__ = [
    "contrast_of",
    "folder_key",
    "is_body_mask",
    "is_explicit_patient",
    "is_label_alone",
    "is_mask",
    "is_mask_folder",
    "key_of",
    "label_of",
    "modality_of",
    "other_modality_of",
    "patient_of_folder",
    "patient_of_stem",
    "tokens_of",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTRAST_WORDS = {
    "T1": "t1 t1w t1wi t1n mprage mp2rage spgr",
    "T1c": "t1c t1ce t1gd t1km t1post t1wce",
    "T2": "t2 t2w t2wi",
    "FLAIR": "flair fla t2f t2flair",
    "PD": "pd pdw",
    "DWI": "dwi",
    "ADC": "adc",
    "SWI": "swi",
    "T2*": "t2s t2star t2starw",
}
_CONTRASTS = {word: contrast for contrast, words in _CONTRAST_WORDS.items() for word in words.split()}
_AGENT = _words("ce gd gad gado gadolinium gadovist post postcontrast contrast")
_CT = _words("ct cts ncct nect cect cta ctscan ctscans")
_MRI = _words("mr mri mris mrt mriscan mriscans") | frozenset(_CONTRASTS)
_OTHER = _words("cbct pet spect fdg ultrasound xray")
_MASK = _words(
    "mask masks seg segs segm segmentation segmentations dseg label labels lesion lesions lesionmask lesionmasks "
    "lesionseg tumormask tumourmask gt groundtruth roi rois annotation annotations"
)
# A folder named after a finding holds pictures that show it, and "lgg-mri-segmentation" is a data set with its images.
_MASK_FOLDER = _MASK - _words("lesion lesions segmentation")
_BODY_MASK = _words("brainmask bodymask headmask skullmask")
_NORMAL = _words("normal normals healthy control controls notumor notumour nontumor nontumour nolesion nohemorrhage")
_ABNORMAL = _words(
    "abnormal abnormals abnormality anomaly anomalies anomalous tumor tumors tumour tumours hemorrhage hemorrhages "
    "haemorrhage haemorrhages hemorrhagic haemorrhagic stroke strokes lesion lesions glioma gliomas "
    "glioblastoma meningioma meningiomas pituitary metastasis metastases ischemia ischaemia ischemic ischaemic "
    "infarct infarction hematoma haematoma schwannoma pathological pathology diseased"
)
_NEGATIONS = _words("no non not without")
_DATA_SET = _words("dataset datasets data database challenge detection classification")
_GENERIC = _words(
    "image images img imgs im pic picture pictures photo scan scans slice slices file files frame frames brain head "
    "axial ax png jpg jpeg tif tiff nii nifti npy raw original"
)
_SLICE = _words("s sl slice slices im img image z frame")
# Folders numbered for reasons other than whom they show.
_NO_PATIENT = _DATA_SET | _words(
    "train training test testing val valid validation fold batch part split set group class site center centre "
    "hospital ses session visit series study time day week month year run version v level phase aug augmented"
)
_PATIENT = _words("sub subj subject patient pat pt case tcga p id")

_WORDS = _CONTRASTS.keys() | _CT | _MRI | _OTHER | _MASK | _BODY_MASK | _NORMAL | _ABNORMAL
_NUMBERED_SIBLINGS = 5


def tokens_of(name: str) -> tuple[str, ...]:
    """Split a name into words, in lower case: at whatever is no letter or digit, and between letters and digits.

    Words that are a name in themselves stay whole: ``ct12`` gives ``ct, 12``, ``T1w_3`` gives ``t1w, 3``.
    """
    return tuple(token for word in _split(name) for token in word)


def modality_of(name: str) -> str | None:
    """Return ``ct`` or ``mri`` where the words of a name speak for exactly one of them, else None.

    ``ct-to-mri-cgan`` names both, ``factor`` and ``direct`` merely hold the letters: no evidence.
    """
    tokens = set(tokens_of(name))
    found = [modality for modality, words in ((keys.CT, _CT), (keys.MRI, _MRI)) if tokens & words]
    return found[0] if len(found) == 1 and not tokens & _OTHER else None


def other_modality_of(name: str) -> str | None:
    """Return the word that names a modality that is neither CT nor MRI (``cbct``, ``pet``, ...), or None."""
    return next((token for token in tokens_of(name) if token in _OTHER), None)


def contrast_of(name: str) -> str:
    """Return the MRI contrast that a name states (``T1``, ``T1c``, ``T2``, ``FLAIR``, ``PD``, ...), or ''."""
    tokens = set(tokens_of(name))
    found = {_CONTRASTS[token] for token in tokens if token in _CONTRASTS}
    if found >= {"T2", "FLAIR"}:
        found.discard("T2")
    if "T1" in found and tokens & _AGENT:
        found = found - {"T1"} | {"T1c"}
    return found.pop() if len(found) == 1 else ""


def label_of(name: str) -> int | None:
    """Return 0 or 1 where the words of a folder's name say normal or abnormal, None where they say neither or both."""
    tokens = tokens_of(name)
    found: set[int] = set()
    for index, token in enumerate(tokens):
        negated = index > 0 and tokens[index - 1] in _NEGATIONS
        if token in _NORMAL:
            found.add(int(negated))
        elif token in _ABNORMAL:
            found.add(int(not negated))
    if set(tokens) & _DATA_SET:  # "brain_tumor_dataset" names a collection, not what each of its pictures shows
        return None
    return found.pop() if len(found) == 1 else None


def is_label_alone(name: str) -> bool:
    """Whether a folder's name holds a word for normal or abnormal, and no other but negations and generic words."""
    return label_of(name) is not None and set(tokens_of(name)) <= _NORMAL | _ABNORMAL | _NEGATIONS | _GENERIC


def is_mask(stem: str) -> bool:
    """Whether the words of a file's name say that it outlines something in another image."""
    return bool(set(tokens_of(stem)) & (_MASK | _BODY_MASK))


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name says that it holds masks; ``lesion`` does not: it may hold pictures of lesions."""
    return bool(set(tokens_of(name)) & (_MASK_FOLDER | _BODY_MASK))


def is_body_mask(stem: str) -> bool:
    """Whether a mask's name says that it outlines brain, head or body, and no lesion."""
    tokens = set(tokens_of(stem))
    outlined = tokens & _words("brain body head skull")
    return bool(tokens & _BODY_MASK) or bool(outlined and not tokens & (_ABNORMAL | {"lesionmask", "tumormask"}))


def key_of(name: str, *, without: str = "modality") -> str:
    """Return what is left of a name, in lower case, joined by ``_``: its part that could be shared by a partner.

    Args:
        name: a file's stem, or a folder's name.
        without: ``modality`` takes out the words for modality, contrast and mask; ``mask`` only those for masks.
    """
    taken = _MASK | _BODY_MASK | (_CT | _MRI | _AGENT if without == "modality" else frozenset())
    if without == "modality" and not set(tokens_of(name)) & _MRI:
        taken -= _AGENT
    words = ("".join(token for token in word if token not in taken) for word in _split(name))
    return "_".join(word for word in words if word)


def folder_key(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the folders that partners would share: without words for modality and mask; empty and generic ones go."""
    kept = []
    for part in parts:
        speaks = modality_of(part) is not None or is_mask_folder(part)
        key = key_of(part) if speaks else part.casefold()
        if set(tokens_of(key)) - _GENERIC:
            kept.append(key)
    return tuple(kept)


def patient_of_stem(stem: str, *, volume: bool = False) -> str | None:
    """Return the patient that a file's name states, or None.

    A picture's name states one when letters and digits (``patient07``, ``TCGA_CS_5395``) precede a slice's number.
    A number alone (``16003``), or one behind a mere word (``Te-no_0101``, ``img_12``), is no evidence. A volume's name
    has no slice number: all of it that is not modality counts, if it holds a letter.

    Args:
        stem: the name without suffix.
        volume: whether the file shows a whole head.
    """
    words = [[token for token in word if not _speaks_of_image(token)] for word in _split(stem)]
    words = [word for word in words if word]
    if not volume:
        last = words.pop() if words else []
        if not (last and last[-1].isdigit() and (len(last) == 1 or (len(last) == 2 and last[0] in _SLICE))):
            return None
        words = [word for word in words if not set(word) <= _GENERIC | _SLICE]
    text = "_".join("".join(word) for word in words)
    kept = {token for word in words for token in word} - _GENERIC - _NO_PATIENT
    letters = any(token.isalpha() for token in kept)
    digits = any(token.isdigit() for token in kept)
    return text if letters and (digits or volume) else None


def patient_of_folder(name: str, siblings: int = 0) -> str | None:
    """Return the patient that a folder's name states (its name), or None.

    Args:
        name: the folder's name.
        siblings: folders beside it, itself included, that are named by digits alone; from five on, such a name counts.
    """
    tokens = set(tokens_of(name))
    if name.isdigit():
        return name if siblings >= _NUMBERED_SIBLINGS else None
    if tokens & _NO_PATIENT:
        return None
    rest = {token for token in tokens - _GENERIC - _NORMAL - _ABNORMAL if not _speaks_of_image(token)}
    stated = any(token.isalpha() for token in rest) and any(token.isdigit() for token in rest)
    return name if stated else None


def is_explicit_patient(name: str) -> bool:
    """Whether a folder's name begins with a word for a patient and holds a number: ``sub-01``, ``Patient_7``."""
    tokens = tokens_of(name)
    return len(tokens) > 1 and tokens[0] in _PATIENT and any(token.isdigit() for token in tokens[1:])


def _speaks_of_image(token: str) -> bool:
    return token in _CT or token in _MRI or token in _MASK or token in _BODY_MASK


def _split(name: str) -> Iterable[list[str]]:
    """Yield the tokens of each word, in lower case."""
    for word in re.split(r"[^A-Za-z0-9]+", name.lower()):
        if word in _WORDS:
            yield [word]
        elif word:
            yield re.findall(r"[a-z]+|[0-9]+", word)
