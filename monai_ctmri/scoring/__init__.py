"""A network's outputs become maps, scores and features: one scorer a family."""
