"""Carries out what the core decides: asks members concurrently and in time, and reports.

query    one query, resolved
runner   runs a query: step by step, event by event
gather   asks members and waits no longer than is worthwhile; failures become values
ports    what it needs of the world: members to ask, an observer to tell
events   what it tells the caller
"""
