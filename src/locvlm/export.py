"""Writes a model as a LLaVA of transformers: `python -m locvlm.export checkpoint=... output=...`.

What comes out needs no locvlm: transformers, vLLM and lmms-eval load it. See docs/llava.md.
"""

from dataclasses import dataclass

from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import hydra_command


@dataclass
class ExportConfig:
    """What `conf/export.yaml` may hold; Hydra refuses any other top-level key."""

    checkpoint: str = MISSING
    output: str = MISSING
    dtype: str = "auto"


@hydra_command("export", ExportConfig)
def main(cfg: DictConfig) -> None:
    """The command."""
    OmegaConf.to_container(cfg, throw_on_missing=True)
    # Imported here: torch takes seconds, and `--help` must not wait for it.
    from locvlm.models import LocVLM
    from locvlm.models.llava_export import export_llava

    export_llava(LocVLM.from_pretrained(cfg.checkpoint, dtype=cfg.dtype), cfg.output)
    print(f"exported: {cfg.output}")


if __name__ == "__main__":
    main()
