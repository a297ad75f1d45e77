"""Serves one base LLM: proposes segments and scores candidates."""
