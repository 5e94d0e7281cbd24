"""Whether a launcher started the processes that a trainer counts on."""

import os

from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from locvlm.errors import ConfigError


def check_processes(trainer: Trainer) -> None:
    """Refuses a trainer that would wait for processes forever, or train in each of them alone.

    torchrun and SLURM say in the environment how many they started; Lightning, where it starts them
    itself, starts the right number.

    Raises:
        ConfigError: there are more of them, or fewer.
    """
    expected = trainer.num_devices * trainer.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # it may itself have been started by SLURM
        launcher, started = "torchrun", int(os.environ["WORLD_SIZE"])
    elif SLURMEnvironment.detect():
        launcher, started = "SLURM", int(os.environ["SLURM_NTASKS"])
        if started > 1 and "SLURM_STEP_ID" not in os.environ:
            raise ConfigError(
                f"this is the only process of a SLURM job of {started} tasks",
                where="trainer",
                fix="start the command with srun in the job's script",
            )
    else:
        return
    if started != expected:
        raise ConfigError(
            f"the trainer counts on {expected} process(es), {launcher} started {started}",
            where="trainer.devices, trainer.num_nodes",
            fix="give trainer=ddp or trainer=fsdp, trainer.num_nodes as there are computers and "
            "trainer.devices as there are processes on each (--nproc-per-node of torchrun, "
            "--ntasks-per-node of SLURM)",
        )
