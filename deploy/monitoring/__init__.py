"""Makes what watches a mesh, from one program: `make monitoring`.

docs/metrics.md        every series that the services export
"""
