import pytest
import torch
import torch.nn.functional as F

from locvlm.models import loss
from locvlm.models.loss import learned_weight, weighted_cross_entropy
from locvlm.processor import IGNORE_INDEX
from tests.tiny import make_model

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 2, 2])


def test_without_weights_it_is_the_mean_cross_entropy():
    expected = F.cross_entropy(LOGITS, LABELS)
    assert weighted_cross_entropy(LOGITS, LABELS) == pytest.approx(expected.item())


def test_each_token_counts_by_its_weight():
    each = F.cross_entropy(LOGITS, LABELS, reduction="none")
    found = weighted_cross_entropy(LOGITS, LABELS, torch.tensor([8.0, 1.0, 3.0]))
    assert found.item() == pytest.approx((8 * each[0] + each[1] + 3 * each[2]).item() / 12)


def test_it_is_computed_in_float32():
    found = weighted_cross_entropy(LOGITS.bfloat16(), LABELS, torch.ones(3))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("at_once", [loss.AT_ONCE, 300])
def test_weights_are_added_up_in_float32(monkeypatch, at_once):
    # In bfloat16, in which Lightning gives them under bf16-true, 301 ones make 300 or 302.
    monkeypatch.setattr(loss, "AT_ONCE", at_once)
    torch.manual_seed(0)
    head, hidden = torch.nn.Linear(4, 3), torch.randn(301, 4)
    labels = torch.randint(3, (301,))
    expected = loss.head_cross_entropy(head, hidden, labels)
    found = loss.head_cross_entropy(head, hidden, labels, torch.ones(301, dtype=torch.bfloat16))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    ones = torch.ones(1, 302, dtype=torch.bfloat16)
    assert learned_weight(torch.zeros(1, 302, dtype=torch.long), ones).item() == 301


@pytest.mark.parametrize("weights", [None, torch.zeros(0)])
def test_where_nothing_is_learned_it_is_zero_with_gradients(weights):
    logits = torch.zeros(0, 3, requires_grad=True)
    found = weighted_cross_entropy(logits, torch.zeros(0, dtype=torch.long), weights)
    found.backward()
    assert found.item() == 0
    assert logits.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("frozen", "bias"), [(False, True), (True, False)])
def test_logits_in_pieces_give_the_loss_and_gradients_of_all_at_once(
    monkeypatch, dtype, frozen, bias
):
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 40, bias=bias).to(dtype).requires_grad_(not frozen)
    hidden = torch.randn(23, 16).to(dtype).requires_grad_()
    labels, weights = torch.randint(40, (23,)), torch.rand(23)
    learned = [hidden, *(weight for weight in head.parameters() if not frozen)]
    expected = weighted_cross_entropy(head(hidden), labels, weights)
    wanted = torch.autograd.grad(expected, learned)
    monkeypatch.setattr(loss, "AT_ONCE", 200)  # five rows
    found = loss.head_cross_entropy(head, hidden, labels, weights)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    # In bfloat16 the gradients of the pieces are rounded before they are added.
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    for gradient, one in zip(torch.autograd.grad(found, learned), wanted, strict=True):
        assert (gradient - one).norm() <= tolerance * one.norm()


def test_no_more_logits_are_held_than_fit(monkeypatch):
    head, seen = torch.nn.Linear(16, 40), []
    head.register_forward_hook(lambda *args: seen.append(args[2].numel()))
    monkeypatch.setattr(loss, "AT_ONCE", 200)
    loss.head_cross_entropy(head, torch.randn(23, 16), torch.zeros(23, dtype=torch.long))
    assert max(seen) == 200
    assert sum(seen) == 23 * 40


def test_the_losses_of_batches_add_up_by_what_they_weigh():
    model = make_model()
    ids = torch.randint(1, 20, (3, 7))
    labels = ids.masked_fill(torch.rand(3, 7) < 0.4, IGNORE_INDEX)
    labels[:, 0] = 5  # never learned, for nothing stands before it
    for weights in (None, torch.rand(3, 7)):
        losses = [
            model(
                ids[rows],
                labels=labels[rows],
                loss_weights=None if weights is None else weights[rows],
            )
            for rows in (slice(0, 2), slice(2, 3), slice(0, 3))
        ]
        parts = [
            learned_weight(labels[rows], None if weights is None else weights[rows])
            for rows in (slice(0, 2), slice(2, 3))
        ]
        mean = sum(loss * part for loss, part in zip(losses, parts, strict=False)) / sum(parts)
        torch.testing.assert_close(mean, losses[-1])
