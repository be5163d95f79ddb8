"""Experiments: a TOML file (or a preset) says what to run; a run leaves a table, a figure and a summary.

Examples
--------
>>> from theorykit import experiments
>>> "fig-1a" in experiments.preset_names()
True
>>> experiments.load_experiment("fig-1a", profile="quick").settings["problem"]["loss"]
'logistic'
"""

from theorykit.experiments.build import build_problem
from theorykit.experiments.config import Experiment, about_preset, load_experiment, preset_names
from theorykit.experiments.family import FamilyResult, run_family
from theorykit.experiments.run import ExperimentResult, run_experiment

__all__ = [
    "Experiment",
    "ExperimentResult",
    "FamilyResult",
    "about_preset",
    "build_problem",
    "load_experiment",
    "preset_names",
    "run_experiment",
    "run_family",
]
