"""Experiments: a TOML file (or a preset) says what to run; a run leaves a table, a figure and a summary.

Examples
--------
>>> from theorykit import experiments
>>> experiments.preset_names()
['digits', 'fig-1a', 'fig-1b']
>>> experiments.load_experiment("fig-1a", profile="quick").settings["problem"]["loss"]
'logistic'
"""

from theorykit.experiments.config import Experiment, load_experiment, preset_names
from theorykit.experiments.run import ExperimentResult, build_problem, run_experiment

__all__ = ["Experiment", "ExperimentResult", "build_problem", "load_experiment", "preset_names", "run_experiment"]
