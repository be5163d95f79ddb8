"""A check without a ladder: an inequality, judged by its slack."""

import numpy as np

import theorykit as tk


class LargestMargin(tk.Claim):
    """The max l1-margin direction has a smaller l2-margin than the largest one."""

    id, title, kind = "notes.margins", "no direction beats the l2-margin", "inequality"
    source = tk.Source("notes", "by definition", "@misc{notes, title = {Notes on margins}, year = {2026}}")
    quantity = "largest l2-margin minus that of the l1 direction"
    expansion = None  # no ladder: what is measured is a slack

    def instances(self, rng):
        data = tk.datasets.sparse_sign(n=8, d=40, k=3, seed=int(rng.integers(2**31)))
        yield tk.Instance(tk.models.DiagonalNet(d=40), data, loss="logistic")

    def measure(self, instance, problem, variant):
        return self.slack(instance, sign=1.0)

    def controls(self):
        return [tk.Control("a larger one", lambda instance, problem: self.slack(instance, sign=-1.0))]

    def slack(self, instance, sign):
        largest = self.max_margin(instance.data, 2).certificate
        w = self.max_margin(instance.data, 1).w
        reached = (instance.data.y * (instance.data.X @ w)).min() / np.linalg.norm(w)
        return tk.Measurement(
            sign * (largest.lower - reached), predicted=0.0, certificate=largest.upper - largest.lower
        )
