"""Fuses the proposals of several models into one answer, round by round."""
