"""Flows and kernels of random small nets against PyTorch: gradient descent of small step there, and its gradients.

python tests/oracle/torch_agreement.py 20

The nets are written once more in PyTorch's own operations; nothing is shared but the flat order of the parameters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import theorykit as tk
from theorykit.models import CNN, MLP

T_END = 2.0  # flow time
STEPS = (400, 800, 1600)
ACTIVATIONS = (
    "z^2",
    "identity",
    "relu^2",
)  # smooth: descent chatters across kinks, along which the flow slides


def case(k: int, seed: int) -> tuple[tk.Problem, str]:
    """Return a random problem; kinds of nets, activations and losses take turns."""
    rng = np.random.default_rng([seed, k])
    loss = ("squared", "logistic", "exponential", "cross_entropy")[k % 4]
    outputs, activation = (3 if loss == "cross_entropy" else 1), ACTIVATIONS[k % len(ACTIVATIONS)]
    net: Any
    if k % 3 < 2:
        hidden = tuple(int(width) for width in rng.integers(3, 7, 1 + k % 2))
        net = MLP((4, *hidden, outputs), activation, bias=bool(rng.integers(2)))
    elif k % 2:
        net = CNN((7,), (3, 2), 2, activation, "sum", outputs=outputs, bias=True)
    else:
        net = CNN((4, 5), (3,), 2, activation, "average", outputs=outputs)
    n = 6
    X = rng.standard_normal((n, net.d)) / np.sqrt(net.d)
    y = {"squared": rng.standard_normal(n), "cross_entropy": np.arange(n) % 3}.get(loss, rng.choice([-1.0, 1.0], n))
    task: Any = {"squared": "regression", "cross_entropy": "multiclass"}.get(loss, "classification")
    data = tk.Dataset.from_arrays(X, y, task=task, classes=3 if loss == "cross_entropy" else None)
    init = net.direction("he", seed=k)
    return tk.Problem(net, data, loss=loss, alpha=1.0, weight_decay=0.1, init=init), activation


def output(net: MLP | CNN, theta: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    """Return f(theta; x), shape (n, outputs)."""
    phi = _activation(net.phi.slope, net.phi.power)
    parts, start = {}, 0
    for name, shape in net.shapes.items():
        parts[name] = theta[start : start + int(np.prod(shape))].reshape(shape)
        start += int(np.prod(shape))
    layers = sum(name.startswith("W") for name in parts)
    if isinstance(net, MLP):
        a = X
        for k in range(1, layers):
            a = phi(a @ parts[f"W{k}"] + parts.get(f"b{k}", torch.zeros(())))
        return a @ parts[f"W{layers}"]
    return _convolutional(net, parts, layers, phi, X)


def _convolutional(net: CNN, parts: dict[str, Any], layers: int, phi: Callable[..., Any], X: torch.Tensor) -> Any:
    one = len(net.image) == 1
    convolve = functional.conv1d if one else functional.conv2d
    pool = functional.avg_pool1d if one else functional.avg_pool2d
    a = X.reshape(-1, *net.image, net.input_channels).movedim(-1, 1)
    for k in range(1, layers):
        W = parts[f"W{k}"]
        sides = (net.kernel,) * len(net.image)
        kernel = W.reshape(*sides, a.shape[1], W.shape[1]).movedim((-1, -2), (0, 1))
        a = phi(convolve(a, kernel, parts.get(f"b{k}")))
    window = tuple(a.shape[2:]) if net.window is None else (net.window,) * len(net.image)
    pooled = pool(a, window) * (1.0 if net.pooling == "average" else float(np.prod(window)))
    return pooled.movedim(1, -1).flatten(1) @ parts[f"W{layers}"]


def _activation(slope: float, power: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda z: functional.leaky_relu(z, slope) ** power


def mean_loss(loss: str, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean loss over samples."""
    if loss == "cross_entropy":
        return functional.cross_entropy(f, y)
    q = f[:, 0]
    if loss == "squared":
        return ((q - y) ** 2).mean()
    return (functional.softplus(-y * q) if loss == "logistic" else torch.exp(-y * q)).mean()


def descend(problem: tk.Problem, steps: int) -> np.ndarray:
    """Return theta after gradient descent to flow time `T_END` in so many steps."""
    net: Any = problem.model
    X, y = torch.tensor(problem.data.X), torch.tensor(problem.data.y)
    theta = torch.tensor(problem.direction.copy(), requires_grad=True)
    decay = float(np.exp(problem.log_weight_decay))
    descent = torch.optim.SGD([theta], lr=T_END / steps, weight_decay=decay)
    for _ in range(steps):
        descent.zero_grad()
        mean_loss(problem.loss, output(net, theta, X), y).backward()  # type: ignore[no-untyped-call]
        descent.step()
    return theta.detach().numpy()


def kernel(problem: tk.Problem) -> np.ndarray:
    """Return the tangent kernel at theta_bar by automatic differentiation, (n, c, n, c)."""
    net: Any = problem.model
    X = torch.tensor(problem.data.X)
    jacobian = torch.autograd.functional.jacobian(
        lambda theta: output(net, theta, X), torch.tensor(problem.direction.copy())
    )
    return np.tensordot(jacobian.numpy(), jacobian.numpy(), (-1, -1))


def row(k: int, seed: int) -> dict[str, Any]:
    """Return how one flow and one kernel lie to PyTorch's."""
    problem, activation = case(k, seed)

    flow = tk.gradient_flow(problem, tau_end=0.1 * T_END, rtol=1e-9, save=tk.SaveAt(num=2)).raise_for_status()
    unit, log_norm = flow.parameters(-1)
    theta = unit * np.exp(log_norm)
    found = [descend(problem, steps) for steps in STEPS]
    errors = [_off(other, theta) for other in found]
    expected = kernel(problem)
    ours = tk.kernels.ntk(problem.model, problem.data.X, init=problem.direction)
    return {
        "net": problem.model.name,
        "loss": problem.loss,
        "activation": activation,
        "slope": float(np.log2(errors[-2] / errors[-1])),
        "error": errors[-1],
        "extrapolated": _off(2.0 * found[-1] - found[-2], theta),
        "ntk": float(np.max(np.abs(ours.reshape(expected.shape) - expected)) / np.max(np.abs(expected))),
    }


def _off(other: np.ndarray, theta: np.ndarray) -> float:
    return float(np.linalg.norm(other - theta) / np.linalg.norm(theta))


def run(count: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row for each random net."""
    torch.set_num_threads(1)
    return [row(k, seed) for k in range(count)]


if __name__ == "__main__":
    for entry in run(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        numbers = "  ".join(f"{name} {entry[name]:.3g}" for name in ("slope", "error", "extrapolated", "ntk"))
        print(f"{entry['net']:42s} {entry['loss']:14s} {numbers}", flush=True)
