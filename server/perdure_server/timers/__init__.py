"""Timers: from rows that are due soon to one firing each. See ``window``; `TimerScheduler` is the port to what keeps
time.
"""
