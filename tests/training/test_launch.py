import pytest
from lightning import Trainer

from locvlm.errors import ConfigError
from locvlm.training.launch import check_processes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0", "RANK": "0", "GROUP_RANK": "0"}
JOB = {
    "SLURM_JOB_NAME": "job.sh",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS_PER_NODE": "2",
}
SRUN = {**JOB, "SLURM_STEP_ID": "0"}


def check(n_nodes=1, n_devices=1):
    check_processes(Trainer(accelerator="cpu", devices=n_devices, num_nodes=n_nodes, logger=False))


@pytest.fixture
def environment(monkeypatch):
    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_processes_that_lightning_starts_need_no_check():
    check(n_devices=2)


def test_as_many_processes_as_torchrun_started_are_taken(environment):
    environment(**TORCHRUN, WORLD_SIZE="4")
    check(n_nodes=2, n_devices=2)


def test_as_many_processes_as_srun_started_are_taken(environment):
    environment(**SRUN, SLURM_NTASKS="4")
    check(n_nodes=2, n_devices=2)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({**TORCHRUN, "WORLD_SIZE": "2"}, "counts on 1 process.*, torchrun started 2"),
        ({**SRUN, "SLURM_NTASKS": "2"}, "counts on 1 process.*, SLURM started 2"),
    ],
    ids=["torchrun", "srun"],
)
def test_a_trainer_for_one_device_is_refused_in_each_of_two_processes(environment, variables, said):
    environment(**variables)
    with pytest.raises(ConfigError, match=said):
        check()


def test_a_job_without_srun_does_not_wait_for_its_other_tasks(environment):
    environment(**JOB, SLURM_NTASKS="2")
    with pytest.raises(ConfigError, match="only process of a SLURM job of 2 tasks"):
        check(n_devices=2)


def test_torchrun_within_a_slurm_job_counts(environment):
    environment(**{**JOB, **TORCHRUN}, SLURM_NTASKS="1", WORLD_SIZE="2")
    check(n_devices=2)
