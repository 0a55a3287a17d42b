import pytest
import torch

x = torch.randn(512, 512)


def large():
    torch.ones(2**24).add_(1)


def small():
    for _ in range(12):
        x @ x


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("order", ["ls", "sl"])
def test_o(beside, order, k):
    a, b = (large, small) if order == "ls" else (small, large)
    c = beside(a, reference=b)


def pytest_collection_modifyitems(items):
    pass
