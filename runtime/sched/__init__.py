"""Scheduling as data: requests, estimates, views, actions, decisions, and their replay."""
