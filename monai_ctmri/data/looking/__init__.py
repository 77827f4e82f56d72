"""What one slice looks like: modality, level, outline, writing."""
