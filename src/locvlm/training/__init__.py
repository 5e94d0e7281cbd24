"""Training of a model in stages, with Lightning."""
