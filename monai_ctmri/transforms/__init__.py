"""A case -> tensors: loading, registration, slices, intensities, masks, symmetry, augmentation, anomalies, maps."""

from __future__ import annotations

from .anatomy_lesion import AnatomyLesionTransform
from .anomalies import (
    ANOMALY,
    InjectWrongPairD,
    InjectWrongPaird,
    InjectWrongPairDict,
    abnormal_twins,
    assert_families_unseen,
)
from .artefact import ArtefactTransform
from .augmentation import (
    RandIntensityVariation,
    RandIntensityVariationD,
    RandIntensityVariationd,
    RandIntensityVariationDict,
    RandNoiseInjection,
    RandNoiseInjectionD,
    RandNoiseInjectiond,
    RandNoiseInjectionDict,
)
from .bias_correction import CorrectBiasField, CorrectBiasFieldD, CorrectBiasFieldd, CorrectBiasFieldDict
from .brain import (
    BRAIN_METHOD,
    BrainMask,
    BrainMaskD,
    BrainMaskd,
    BrainMaskDict,
    HeadMask,
    HeadMaskD,
    HeadMaskd,
    HeadMaskDict,
)
from .corruption import (
    RandCoarseNoise,
    RandCoarseNoiseD,
    RandCoarseNoised,
    RandCoarseNoiseDict,
    RandModalityDropout,
    RandModalityDropoutD,
    RandModalityDropoutd,
    RandModalityDropoutDict,
)
from .ct import (
    CT_WINDOWS,
    ClampMetal,
    ClampMetalD,
    ClampMetald,
    ClampMetalDict,
    WindowCT,
    WindowCTD,
    WindowCTd,
    WindowCTDict,
)
from .ct_artefacts import (
    InjectLowDoseD,
    InjectLowDosed,
    InjectLowDoseDict,
    InjectRingsD,
    InjectRingsd,
    InjectRingsDict,
    InjectStreaksD,
    InjectStreaksd,
    InjectStreaksDict,
)
from .dense_anomalies import (
    InjectCalcificationD,
    InjectCalcificationd,
    InjectCalcificationDict,
    InjectMetalD,
    InjectMetald,
    InjectMetalDict,
)
from .displacement_anomalies import (
    InjectAtrophyD,
    InjectAtrophyd,
    InjectAtrophyDict,
    InjectHydrocephalusD,
    InjectHydrocephalusd,
    InjectHydrocephalusDict,
    InjectMidlineShiftD,
    InjectMidlineShiftd,
    InjectMidlineShiftDict,
)
from .domain_randomisation import (
    DOMAINS,
    RandBiasShading,
    RandBiasShadingD,
    RandBiasShadingd,
    RandBiasShadingDict,
    RandContrastCurve,
    RandContrastCurveD,
    RandContrastCurved,
    RandContrastCurveDict,
    RandDomain,
    RandDomainD,
    RandDomaind,
    RandDomainDict,
    RandGammaCurve,
    RandGammaCurveD,
    RandGammaCurved,
    RandGammaCurveDict,
    RandResolutionLoss,
    RandResolutionLossD,
    RandResolutionLossd,
    RandResolutionLossDict,
)
from .extra_axial import InjectCollectionD, InjectCollectiond, InjectCollectionDict
from .foreign_patches import (
    RandForeignPatchD,
    RandForeignPatchd,
    RandForeignPatchDict,
    RandPoissonPatchD,
    RandPoissonPatchd,
    RandPoissonPatchDict,
)
from .healthy_z import HealthyStatistics, HealthyZMap, HealthyZMapD, HealthyZMapd, HealthyZMapDict
from .heatmap_scale import HeatmapScale, HeatmapScaleD, HeatmapScaled, HeatmapScaleDict
from .histogram_landmarks import (
    DECILES,
    HistogramLandmarks,
    NyulNormalize,
    NyulNormalizeD,
    NyulNormalized,
    NyulNormalizeDict,
)
from .lesion import LesionTransform
from .lesion_suite import SIZES, SUITE, lesion_of, lesion_suite
from .loading import LoadMask, LoadMaskD, LoadMaskd, LoadMaskDict, LoadSlice, LoadSliceD, LoadSliced, LoadSliceDict
from .map_cleaning import CleanMap, CleanMapD, CleanMapd, CleanMapDict, remove_small_components
from .midline_search import Midline, Midplane, find_midline, find_midplane
from .mirror_channels import AppendMirrorD, AppendMirrord, AppendMirrorDict
from .mirror_difference import (
    SIGNS,
    MirrorDifference,
    MirrorDifferenceD,
    MirrorDifferenced,
    MirrorDifferenceDict,
    MirrorRange,
    MirrorRangeD,
    MirrorRanged,
    MirrorRangeDict,
    lateral_axis,
)
from .mri import (
    NormalizeMRI,
    NormalizeMRID,
    NormalizeMRId,
    NormalizeMRIDict,
    ZScoreMRI,
    ZScoreMRID,
    ZScoreMRId,
    ZScoreMRIDict,
)
from .mri_artefacts import (
    InjectBiasD,
    InjectBiasd,
    InjectBiasDict,
    InjectGhostingD,
    InjectGhostingd,
    InjectGhostingDict,
    InjectMotionD,
    InjectMotiond,
    InjectMotionDict,
    InjectSpikeD,
    InjectSpiked,
    InjectSpikeDict,
)
from .mri_contrast import (
    MRI_CONTRAST,
    MRI_CONTRAST_CONFIDENCE,
    GuessContrast,
    GuessContrastD,
    GuessContrastd,
    GuessContrastDict,
    guess_contrast,
)
from .one_modality import InjectOneModalityD, InjectOneModalityd, InjectOneModalityDict, one_modality
from .pair_faults import (
    InjectFlipD,
    InjectFlipd,
    InjectFlipDict,
    InjectMisregistrationD,
    InjectMisregistrationd,
    InjectMisregistrationDict,
    InjectWrongSliceD,
    InjectWrongSliced,
    InjectWrongSliceDict,
    PairFaultTransform,
)
from .poisson_blending import poisson_blend
from .registration import RegisterToReference, RegisterToReferenceD, RegisterToReferenced, RegisterToReferenceDict
from .residual import MapScore, ResidualMap, ResidualMapD, ResidualMapd, ResidualMapDict
from .shared_geometry import RandSharedGeometryD, RandSharedGeometryd, RandSharedGeometryDict
from .slice_level import (
    SLICE_LEVEL,
    SliceLevel,
    SliceLevelD,
    SliceLeveld,
    SliceLevelDict,
    depths_below_vertex_mm,
    intracranial_share,
)
from .slices import SLICE_INDEX, AxialSlicesD, AxialSlicesd, AxialSlicesDict, restack_slices
from .stacking import StackModalitiesD, StackModalitiesd, StackModalitiesDict
from .structure_anomalies import (
    InjectForeignStructureD,
    InjectForeignStructured,
    InjectForeignStructureDict,
    InjectMissingStructureD,
    InjectMissingStructured,
    InjectMissingStructureDict,
)
from .symmetry import (
    DOUBTFUL,
    MidsagittalAlign,
    MidsagittalAlignD,
    MidsagittalAlignd,
    MidsagittalAlignDict,
    align_midsagittal,
)
from .table_removal import RemoveTable, RemoveTableD, RemoveTabled, RemoveTableDict
from .training_anomalies import (
    RandGainShiftD,
    RandGainShiftd,
    RandGainShiftDict,
    RandLocalWarpD,
    RandLocalWarpd,
    RandLocalWarpDict,
    RandNoiseBlobsD,
    RandNoiseBlobsd,
    RandNoiseBlobsDict,
)
from .training_anomaly import TrainingAnomaly
from .tumour_anomalies import InjectTumourD, InjectTumourd, InjectTumourDict
from .vascular_anomalies import (
    InjectChronicInfarctD,
    InjectChronicInfarctd,
    InjectChronicInfarctDict,
    InjectHemorrhageD,
    InjectHemorrhaged,
    InjectHemorrhageDict,
    InjectInfarctD,
    InjectInfarctd,
    InjectInfarctDict,
)
from .volume_lesions import InjectIntoVolumeD, InjectIntoVolumed, InjectIntoVolumeDict
from .volumes import LoadVolume, LoadVolumeD, LoadVolumed, LoadVolumeDict

# fmt: off
__all__ = [
    "ANOMALY", "BRAIN_METHOD", "CT_WINDOWS", "DECILES", "DOMAINS", "DOUBTFUL", "MRI_CONTRAST",
    "MRI_CONTRAST_CONFIDENCE", "SIGNS", "SIZES", "SLICE_INDEX", "SLICE_LEVEL", "SUITE", "AnatomyLesionTransform",
    "AppendMirrorD", "AppendMirrorDict", "AppendMirrord", "ArtefactTransform", "AxialSlicesD", "AxialSlicesDict",
    "AxialSlicesd", "BrainMask", "BrainMaskD", "BrainMaskDict", "BrainMaskd", "ClampMetal", "ClampMetalD",
    "ClampMetalDict", "ClampMetald", "CleanMap", "CleanMapD", "CleanMapDict", "CleanMapd", "CorrectBiasField",
    "CorrectBiasFieldD", "CorrectBiasFieldDict", "CorrectBiasFieldd", "GuessContrast", "GuessContrastD",
    "GuessContrastDict", "GuessContrastd", "HeadMask", "HeadMaskD", "HeadMaskDict", "HeadMaskd",
    "HealthyStatistics", "HealthyZMap", "HealthyZMapD", "HealthyZMapDict", "HealthyZMapd", "HeatmapScale",
    "HeatmapScaleD", "HeatmapScaleDict", "HeatmapScaled", "HistogramLandmarks", "InjectAtrophyD",
    "InjectAtrophyDict", "InjectAtrophyd", "InjectBiasD", "InjectBiasDict", "InjectBiasd", "InjectCalcificationD",
    "InjectCalcificationDict", "InjectCalcificationd", "InjectChronicInfarctD", "InjectChronicInfarctDict",
    "InjectChronicInfarctd", "InjectCollectionD", "InjectCollectionDict", "InjectCollectiond", "InjectFlipD",
    "InjectFlipDict", "InjectFlipd", "InjectForeignStructureD", "InjectForeignStructureDict",
    "InjectForeignStructured", "InjectGhostingD", "InjectGhostingDict", "InjectGhostingd", "InjectHemorrhageD",
    "InjectHemorrhageDict", "InjectHemorrhaged", "InjectHydrocephalusD", "InjectHydrocephalusDict",
    "InjectHydrocephalusd", "InjectInfarctD", "InjectInfarctDict", "InjectInfarctd", "InjectIntoVolumeD",
    "InjectIntoVolumeDict", "InjectIntoVolumed", "InjectLowDoseD", "InjectLowDoseDict", "InjectLowDosed",
    "InjectMetalD", "InjectMetalDict", "InjectMetald", "InjectMidlineShiftD", "InjectMidlineShiftDict",
    "InjectMidlineShiftd", "InjectMisregistrationD", "InjectMisregistrationDict", "InjectMisregistrationd",
    "InjectMissingStructureD", "InjectMissingStructureDict", "InjectMissingStructured", "InjectMotionD",
    "InjectMotionDict", "InjectMotiond", "InjectOneModalityD", "InjectOneModalityDict", "InjectOneModalityd",
    "InjectRingsD", "InjectRingsDict", "InjectRingsd", "InjectSpikeD", "InjectSpikeDict", "InjectSpiked",
    "InjectStreaksD", "InjectStreaksDict", "InjectStreaksd", "InjectTumourD", "InjectTumourDict", "InjectTumourd",
    "InjectWrongPairD", "InjectWrongPairDict", "InjectWrongPaird", "InjectWrongSliceD", "InjectWrongSliceDict",
    "InjectWrongSliced", "LesionTransform", "LoadMask", "LoadMaskD", "LoadMaskDict", "LoadMaskd", "LoadSlice",
    "LoadSliceD", "LoadSliceDict", "LoadSliced", "LoadVolume", "LoadVolumeD", "LoadVolumeDict", "LoadVolumed",
    "MapScore", "Midline", "Midplane", "MidsagittalAlign", "MidsagittalAlignD", "MidsagittalAlignDict",
    "MidsagittalAlignd", "MirrorDifference", "MirrorDifferenceD", "MirrorDifferenceDict", "MirrorDifferenced",
    "MirrorRange", "MirrorRangeD", "MirrorRangeDict", "MirrorRanged", "NormalizeMRI", "NormalizeMRID",
    "NormalizeMRIDict", "NormalizeMRId", "NyulNormalize", "NyulNormalizeD", "NyulNormalizeDict", "NyulNormalized",
    "PairFaultTransform", "RandBiasShading", "RandBiasShadingD", "RandBiasShadingDict", "RandBiasShadingd",
    "RandCoarseNoise", "RandCoarseNoiseD", "RandCoarseNoiseDict", "RandCoarseNoised", "RandContrastCurve",
    "RandContrastCurveD", "RandContrastCurveDict", "RandContrastCurved", "RandDomain", "RandDomainD",
    "RandDomainDict", "RandDomaind", "RandForeignPatchD", "RandForeignPatchDict", "RandForeignPatchd",
    "RandGainShiftD", "RandGainShiftDict", "RandGainShiftd", "RandGammaCurve", "RandGammaCurveD",
    "RandGammaCurveDict", "RandGammaCurved", "RandIntensityVariation", "RandIntensityVariationD",
    "RandIntensityVariationDict", "RandIntensityVariationd", "RandLocalWarpD", "RandLocalWarpDict",
    "RandLocalWarpd", "RandModalityDropout", "RandModalityDropoutD", "RandModalityDropoutDict",
    "RandModalityDropoutd", "RandNoiseBlobsD", "RandNoiseBlobsDict", "RandNoiseBlobsd", "RandNoiseInjection",
    "RandNoiseInjectionD", "RandNoiseInjectionDict", "RandNoiseInjectiond", "RandPoissonPatchD",
    "RandPoissonPatchDict", "RandPoissonPatchd", "RandResolutionLoss", "RandResolutionLossD",
    "RandResolutionLossDict", "RandResolutionLossd", "RandSharedGeometryD", "RandSharedGeometryDict",
    "RandSharedGeometryd", "RegisterToReference", "RegisterToReferenceD", "RegisterToReferenceDict",
    "RegisterToReferenced", "RemoveTable", "RemoveTableD", "RemoveTableDict", "RemoveTabled", "ResidualMap",
    "ResidualMapD", "ResidualMapDict", "ResidualMapd", "SliceLevel", "SliceLevelD", "SliceLevelDict", "SliceLeveld",
    "StackModalitiesD", "StackModalitiesDict", "StackModalitiesd", "TrainingAnomaly", "WindowCT", "WindowCTD",
    "WindowCTDict", "WindowCTd", "ZScoreMRI", "ZScoreMRID", "ZScoreMRIDict", "ZScoreMRId", "abnormal_twins",
    "align_midsagittal", "assert_families_unseen", "depths_below_vertex_mm", "find_midline", "find_midplane",
    "guess_contrast", "intracranial_share", "lateral_axis", "lesion_of", "lesion_suite", "one_modality",
    "poisson_blend", "remove_small_components", "restack_slices",
]
# fmt: on
