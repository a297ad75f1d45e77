"""Traces: what becomes of a request on its way through the mesh, told to a collector over OTLP.

OpenTelemetry's API is the port: whoever makes spans is given a `Tracer`, which makes none unless
tracing is configured. Only then are its SDK and the exporter imported (`provider.py`). Spans say
who did what, when and with which outcome; never a word of a prompt or an answer, and no key.
"""
