import pytest
import torch
import torch.distributed as dist

from locvlm.training.strategies import rank_part


def test_one_process_has_the_whole_loss():
    assert rank_part(torch.tensor(3.0), torch.tensor(5.0)) == 3.0


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ((3.0, 6.0), (1.0, 2.0), (3 * 6 + 1 * 2) / 8),
        ((3.0, 0.0), (1.0, 2.0), 1.0),
        ((0.0, 0.0), (0.0, 0.0), 0.0),
    ],
)
def test_the_mean_over_ranks_is_the_mean_over_all_that_is_learned(
    monkeypatch, own, other, expected
):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    parts = []
    for (loss, weight), (_, others) in ((own, other), (other, own)):
        monkeypatch.setattr(dist, "all_reduce", lambda tensor, n=others: tensor.add_(n))
        parts.append(rank_part(torch.tensor(loss), torch.tensor(weight)))
    assert sum(parts) / 2 == pytest.approx(expected)
