"""Volumes and DICOM series -> voxels with their place in space."""
