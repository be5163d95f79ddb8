"""`Stepper`: the gradient flow of a problem step by step, for whoever wants the loop for themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import choice, finite
from theorykit.flow.api import LOOSEST, TIGHTEST, log_end, loosest_in_frames
from theorykit.flow.model_flow import Run, Segment, check_scale, starts_at_zero
from theorykit.flow.model_path import ModelPath
from theorykit.flow.ode.methods import METHODS
from theorykit.flow.ode.stepping import Status
from theorykit.flow.path import Floats
from theorykit.flow.problem import Problem


class Stepper:
    """Gradient flow that moves one accepted step at a time.

    It takes the same steps, to the same bits, as `gradient_flow` with the same tolerance in the frames (every method
    but "dual" and "streamed"). There is no companion run, and so no error estimate.

    Parameters
    ----------
    problem : Problem
        Diagonal nets are followed in their parameters, not in the dual reduction.
    s_end, tau_end, log_t_end : float
        The end, exactly one of them, as for `gradient_flow`.
    rtol : float
        Local error of a step, as for `gradient_flow`.
    method : str
        "auto", or one of the methods of `integrate`.

    Raises
    ------
    InputError
        An argument is unusable (before any work).

    Examples
    --------
    >>> import theorykit as tk
    >>> net = tk.models.MLP((10, 4, 1), activation="z^2")
    >>> data = tk.datasets.sparse_sign(n=4, d=10, k=3, seed=0)
    >>> walk = Stepper(tk.Problem(net, data, log_alpha=5.0, log_weight_decay=-5.0), s_end=1.5)
    >>> walk.step()
    >>> while walk.running and walk.statistics("train_accuracy")["train_accuracy"] < 1.0:
    ...     walk.step()
    >>> walk.running, walk.tau < 0.1
    (True, True)
    """

    def __init__(
        self, problem: Problem, *, s_end: float | None = None, tau_end: float | None = None,
        log_t_end: float | None = None, rtol: float = 1e-8, method: str = "auto",
    ) -> None:  # fmt: skip
        if not isinstance(problem, Problem):
            raise InputError("problem", type(problem).__name__, "a Problem")
        self.problem, end = problem, log_end(problem, s_end, tau_end, log_t_end)
        rtol = finite("rtol", rtol, minimum=TIGHTEST)
        if rtol > LOOSEST:
            raise InputError("rtol", f"{rtol:g}", f"at most {LOOSEST:g}")
        choice("method", method, list(METHODS))
        zero_output = starts_at_zero(problem)
        check_scale(problem, zero_output)
        with np.errstate(under="ignore"):
            self._run = Run(problem, zero_output, end, min(rtol, loosest_in_frames(problem)), method)

    @property
    def running(self) -> bool:
        """Whether there is a step to take: neither the end nor trouble has come."""
        return self._run.status is Status.RUNNING

    @property
    def status(self) -> str:
        """Where it stands, in one word: as `Trajectory.status`, or "running"."""
        return self._run.status.name.lower()

    @property
    def message(self) -> str:
        """What that means, and what to do about it."""
        return str(self._run.status.value)

    @property
    def steps(self) -> int:
        """Accepted steps so far."""
        return self._run.steps + (len(self._run.records) if self._run.flow is not None else 0)

    @property
    def tau(self) -> float:
        """Slow time lambda t; nan without weight decay."""
        return math.exp(self._run.log_tau) if self._run.decaying else math.nan

    @property
    def log_t(self) -> float:
        """Logarithm of flow time t."""
        return self._run.log_tau - (self.problem.log_weight_decay if self._run.decaying else 0.0)

    def step(self) -> None:
        """Take an accepted step.

        Raises
        ------
        InputError
            There is none to take: `running` is False.
        """
        if not self.running:
            raise InputError("step", f"a flow that is over: {self.message}", "one that is running")
        before = self.steps
        with one_blas_thread(), np.errstate(under="ignore"):
            while self.running and self.steps == before:  # the end of a segment can come without a step
                self._run.step()

    def statistics(self, *names: str) -> dict[str, float]:
        """Return statistics where the flow is now; all that apply, without names."""
        path = self._here()
        found = path.statistics(np.array([self._run.log_tau]), names or None)
        return {name: float(values[0]) for name, values in found.items()}

    def parameters(self) -> tuple[Floats, float]:
        """Return theta/|theta|, shape (P,), and log|theta|."""
        units, logs = self._here().parameters(np.array([self._run.log_tau]))
        return units[0], float(logs[0])

    def outputs(self, X: ArrayLike | None = None) -> Floats:
        """Return the net's outputs on the training inputs, or on others."""
        inputs = None if X is None else self.problem.model.inputs(X)
        return self._here().outputs_on(self._run.log_tau, inputs)

    def _here(self) -> ModelPath:
        """Return a path of the last step alone."""
        run = self._run
        if run.flow is not None and run.records:
            last = Segment(run.field, run.records[-1:], run.flow.method.name, run.by_loss)
        elif run.segments:
            last = replace(run.segments[-1], records=run.segments[-1].records[-1:])
        else:
            raise InputError("step", "a flow that has not moved yet", "a call of step() first")
        return ModelPath(self.problem, replace(run.result(), segments=[last]))
