"""A check of one's own: half-way to the transition, a diagonal net is the max l2-margin classifier."""

import numpy as np

import theorykit as tk


def cosine(a, b):
    """Return the cosine of the angle between two vectors."""
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class EarlyDirection(tk.Claim):
    """Half-way to the transition, w points along the max l2-margin separator."""

    id, title, kind = "mine.early", "direction at s = 1/2", "limit"
    source = tk.Source("lyu2024", "Corollary 3.6")

    def instances(self, rng):
        data = tk.datasets.sparse_sign(n=8, d=40, k=3, seed=int(rng.integers(2**31)))
        yield tk.Instance(tk.models.DiagonalNet(d=40), data, loss="logistic")

    def measure(self, instance, problem, variant):
        return self.alignment(instance, problem, norm=2)

    def controls(self):
        return [tk.Control("max l1-margin instead", lambda i, p: self.alignment(i, p, norm=1))]

    def alignment(self, instance, problem, norm):
        target = self.max_margin(instance.data, norm).w
        now = self.flow(problem, s_end=0.5).at(s=0.5)
        measured, looser = cosine(now.weights, target), cosine(now.companion_weights, target)
        return tk.Measurement(measured, predicted=1.0, integrator=abs(measured - looser))
