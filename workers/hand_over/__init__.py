"""Giving changes to the application: functions in Python, signed messages by HTTP."""
