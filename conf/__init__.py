"""Hydra configs, shipped with the package as `locvlm.conf`."""
