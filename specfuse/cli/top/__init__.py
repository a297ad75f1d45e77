"""A live view of a running mesh in the terminal, from its metrics endpoints: `specfuse top`.

Pure: `targets`, `scrapes`, `intervals`, `history`, `board`, `screen`. `fetching` asks the
endpoints, `session` does so again and again, `command` has the options.
"""
