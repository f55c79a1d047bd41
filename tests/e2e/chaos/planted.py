"""The app of a server with a bug in it: the flows of the rounds, and the bug that the environment names."""

from __future__ import annotations

import os

from e2e.chaos.flows import Ask, Brittle, Choice, Fan, Slow
from e2e.chaos.plant import PLANT_VARIABLE, switch_on

__all__ = ["Ask", "Brittle", "Choice", "Fan", "Slow"]

switch_on(os.environ[PLANT_VARIABLE])
