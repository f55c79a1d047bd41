"""App of a server with a bug: the flows of the rounds, and the bug that the environment names."""

from __future__ import annotations

import os

from chaos.bug_injection import PLANT_VARIABLE, switch_on
from chaos.flows import Ask, Brittle, Choice, Fan, Slow

__all__ = ["Ask", "Brittle", "Choice", "Fan", "Slow"]

switch_on(os.environ[PLANT_VARIABLE])
