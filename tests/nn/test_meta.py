"""Meta-learning against its closed form: quadratic losses, whose gradients are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fairsynth.nn.meta import meta_loss


class Quadratic(nn.Module):
    """L(w) of a row = 1/2 (w - x)^2."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.w - x) ** 2


def slope(order: str, x: Tensor, domains: Tensor, rate: float, weight: float, seed: int = 0) -> float:
    module = Quadratic()
    generator = torch.Generator().manual_seed(seed)
    value = meta_loss(
        module, (x,), domains, order=order, inner_rate=rate, weight=weight, generator=generator  # type: ignore[arg-type]
    )  # fmt: skip
    value.backward()
    return float(module.w.grad)


X = torch.tensor([1.0, 3.0, -2.0, -4.0], dtype=torch.float64)
D = torch.tensor([0, 0, 1, 1])


def closed_form(order: str, rate: float, weight: float, seed: int) -> float:
    held = int(torch.randint(2, (1,), generator=torch.Generator().manual_seed(seed)))
    train, test = X[held != D].mean(), X[held == D].mean()
    w = 0.7
    inner = w - rate * (w - train)
    through = (1 - rate) if order == "second-order" else 1.0
    return float((w - train) + weight * (inner - test) * through)


@pytest.mark.parametrize("order", ["first-order", "second-order"])
@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_the_gradient_is_that_of_the_closed_form(order: str, seed: int) -> None:
    got = slope(order, X, D, rate=0.3, weight=0.8, seed=seed)
    assert got == pytest.approx(closed_form(order, 0.3, 0.8, seed), abs=1e-9)


def test_the_two_orders_differ_by_the_inner_curvature_alone() -> None:
    first, second = (slope(order, X, D, 0.3, 1.0) for order in ("first-order", "second-order"))
    assert abs(first - second) > 0.1
    assert slope("first-order", X, D, 1e-9, 1.0) == pytest.approx(
        slope("second-order", X, D, 1e-9, 1.0), abs=1e-6
    )


def test_no_order_and_one_domain_are_the_plain_mean() -> None:
    plain = float(0.7 - X.mean())
    assert slope("none", X, D, 0.3, 1.0) == pytest.approx(plain)
    assert slope("second-order", X, torch.zeros(4, dtype=torch.int64), 0.3, 1.0) == pytest.approx(plain)
