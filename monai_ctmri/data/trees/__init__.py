"""A folder tree -> images in their places, pairs, masks and labels, each with its reason."""
