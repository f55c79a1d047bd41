"""Timers: the window of timers that are due soon, and the scheduler that keeps time for it."""
