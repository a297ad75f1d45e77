"""What the members do, replica by replica."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.boards.board import (
    ENSEMBLE,
    HERE,
    MEMBER,
    NAMESPACE,
    OF_BOTH,
    OF_MEMBER,
    Board,
    Panel,
    Query,
    Row,
    mean,
    quantile,
    rate,
)

_REPLICA: Final = "model_name, instance"
_NAMED: Final = "{{model_name}} {{instance}}"
_SERVERS: Final = "a backend on another project's server (vLLM, SGLang, TGI, llama.cpp)"
_DCGM: Final = "NVIDIA's DCGM exporter"
_KUBE: Final = "kube-state-metrics, and models that are scaled"
_HPA: Final = f'{HERE}, horizontalpodautoscaler=~".*-model-($member)"'

_PODS: Final = f'{HERE}, pod=~".*-model-($member)-.*"'
_CORES: Final = f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])"
_OURS: Final = (
    f'and on (instance) {{__name__=~"specfuse_model_sessions|specfuse_requests_in_flight", {HERE}}}'
)
"""Of processes of a mesh: Prometheus has those of everybody else, too."""


def _gauge(metric: str) -> str:
    return f"sum by ({_REPLICA}) ({metric}{{{OF_MEMBER}}})"


_STANDING: Final = Row(
    "Who is there",
    (
        Panel(
            "Reachable",
            "Whether every fuser reaches a replica of the member.",
            (
                Query(
                    f"min by (model_name) (specfuse_member_ready{{{OF_MEMBER}}})", "{{model_name}}"
                ),
            ),
            kind="number",
            width=6,
            words=("no", "yes"),
            runbooks=("MemberDown", "QuorumLost"),
        ),
        Panel(
            "Revisions",
            "Of how many revisions the replicas are. More than one for longer than a rollout takes"
            " is a fault.",
            (
                Query(
                    f"max by (model_name) (specfuse_member_revisions{{{OF_MEMBER}}})",
                    "{{model_name}}",
                ),
            ),
            kind="number",
            width=6,
            runbooks=("MixedRevisions",),
        ),
        Panel(
            "Queries that count on it",
            "Under way or held, without those that the member left early: what it is scaled by.",
            (
                Query(
                    f"sum by (model_name) (specfuse_member_sessions{{{OF_MEMBER}}})",
                    "{{model_name}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Replicas wanted",
            "What the autoscalers want, and the most that they may.",
            (
                Query(
                    "max by (horizontalpodautoscaler)"
                    f" (kube_horizontalpodautoscaler_status_desired_replicas{{{_HPA}}})",
                    "{{horizontalpodautoscaler}}",
                ),
                Query(
                    "max by (horizontalpodautoscaler)"
                    f" (kube_horizontalpodautoscaler_spec_max_replicas{{{_HPA}}})",
                    "{{horizontalpodautoscaler}} at most",
                ),
            ),
            width=6,
            needs=_KUBE,
            runbooks=("ScalerInert",),
        ),
        Panel(
            "Departures",
            "Members that left queries as they failed, were late, or found them wrong.",
            (
                Query(
                    rate(
                        "specfuse_member_exits_total",
                        f'{OF_BOTH}, reason!="exit"',
                        "model_name, reason",
                    ),
                    "{{model_name}} {{reason}}",
                ),
            ),
            unit="cps",
            width=12,
            runbooks=("EnsembleDegraded", "MemberDown"),
        ),
        Panel(
            "Calls by outcome",
            "Calls of all fusers.",
            (
                Query(
                    rate("specfuse_member_calls_total", OF_MEMBER, "model_name, outcome"),
                    "{{model_name}} {{outcome}}",
                ),
            ),
            unit="cps",
            kind="stack",
            width=12,
            runbooks=("MemberDown",),
        ),
    ),
)

_WORK: Final = Row(
    "Work, by replica",
    (
        Panel(
            "Queue",
            "Calls that wait for a place, in the model service or in the server behind it.",
            (
                Query(_gauge("specfuse_model_requests_waiting"), f"{_NAMED} service"),
                Query(_gauge("specfuse_model_server_requests_waiting"), f"{_NAMED} server"),
            ),
            runbooks=("ScalerInert", "OverloadRefusals"),
        ),
        Panel(
            "Working on",
            "Calls that the backend works on.",
            (Query(_gauge("specfuse_model_requests_running"), _NAMED),),
        ),
        Panel(
            "Waiting, each call",
            "The mean wait for admission, and then for the first batch.",
            (
                Query(
                    mean("specfuse_model_queue_duration_seconds", OF_MEMBER, "model_name, stage"),
                    "{{model_name}} {{stage}}",
                ),
            ),
            unit="s",
            runbooks=("StragglerDominates",),
        ),
        Panel(
            "Forward passes",
            "What one pass in twenty exceeds, by what it was mostly for.",
            (
                Query(
                    quantile(
                        0.95,
                        "specfuse_model_forward_duration_seconds",
                        OF_MEMBER,
                        "model_name, kind",
                    ),
                    "{{model_name}} {{kind}} 95 %",
                ),
            ),
            unit="s",
            needs="members on the torch backend",
        ),
        Panel(
            "Forward passes a second",
            "Passes of all replicas, by what they were mostly for.",
            (
                Query(
                    rate(
                        "specfuse_model_forward_duration_seconds_count",
                        OF_MEMBER,
                        "model_name, kind",
                    ),
                    "{{model_name}} {{kind}}",
                ),
            ),
            unit="cps",
            needs="members on the torch backend",
        ),
        Panel(
            "Batch size",
            "The mean number of sequences in a forward pass.",
            (Query(mean("specfuse_model_batch_size", OF_MEMBER, _REPLICA), _NAMED),),
            needs="members on the torch backend",
        ),
        Panel(
            "Requests to servers",
            "Requests to the server that runs the model, by how they ended.",
            (
                Query(
                    rate(
                        "specfuse_model_server_request_duration_seconds_count",
                        OF_MEMBER,
                        "model_name, operation, outcome",
                    ),
                    "{{model_name}} {{operation}} {{outcome}}",
                ),
            ),
            unit="cps",
            width=12,
            needs=_SERVERS,
        ),
        Panel(
            "Server, one request in twenty",
            "What one request in twenty to the server exceeds.",
            (
                Query(
                    quantile(
                        0.95,
                        "specfuse_model_server_request_duration_seconds",
                        OF_MEMBER,
                        "model_name, operation",
                    ),
                    "{{model_name}} {{operation}}",
                ),
            ),
            unit="s",
            width=12,
            needs=_SERVERS,
        ),
    ),
)

_CACHED: Final = "specfuse_model_kv_tokens_total"

_MEMORY: Final = Row(
    "Caches and devices, by replica",
    (
        Panel(
            "KV cache in use",
            "The part of the cache's bytes in use. Full is as it should be while hits are high.",
            (Query(_gauge("specfuse_model_kv_cache_usage_ratio"), _NAMED),),
            unit="percentunit",
            runbooks=("KVCacheFull",),
        ),
        Panel(
            "KV hits",
            "The part of the tokens of contexts that were found in the cache.",
            (
                Query(
                    f"""{rate(_CACHED, f'{OF_MEMBER}, outcome="hit"', _REPLICA)}"""
                    f" / {rate(_CACHED, OF_MEMBER, _REPLICA)}",
                    _NAMED,
                ),
            ),
            unit="percentunit",
            needs="members that run a model, which scripted ones do not",
            runbooks=("KVCacheFull",),
        ),
        Panel(
            "Sessions",
            "Contexts in the cache, and sessions for which a call came within the minute.",
            (
                Query(_gauge("specfuse_model_sessions"), f"{_NAMED} cached"),
                Query(_gauge("specfuse_model_live_sessions"), f"{_NAMED} live"),
            ),
        ),
        Panel(
            "GPU use",
            "Of the pods' devices. One request makes it near 100 % already: load is the queue.",
            (
                Query(
                    f"avg by (pod, gpu) (DCGM_FI_DEV_GPU_UTIL{{{_PODS}}})",
                    "{{pod}} {{gpu}}",
                ),
            ),
            unit="percent",
            needs=_DCGM,
        ),
        Panel(
            "GPU memory",
            "Of the pods' devices.",
            (
                Query(
                    f"sum by (pod, gpu) (DCGM_FI_DEV_FB_USED{{{_PODS}}})",
                    "{{pod}} {{gpu}}",
                ),
            ),
            unit="decmbytes",
            needs=_DCGM,
        ),
        Panel(
            "Memory",
            "What each process of the mesh holds.",
            (
                Query(
                    f"max by (instance) (process_resident_memory_bytes{{{HERE}}} {_OURS})",
                    "{{instance}}",
                ),
            ),
            unit="bytes",
        ),
        Panel(
            "Processor",
            "Cores that each process of the mesh keeps busy. A fuser near 1 has no more.",
            (
                Query(
                    f"max by (instance) ({_CORES} {_OURS})",
                    "{{instance}}",
                ),
            ),
            runbooks=("RoundLatencyHigh",),
        ),
        Panel(
            "Certificates",
            "Days until the certificate that callers see expires.",
            (
                Query(
                    "min by (instance, door)"
                    f" (specfuse_tls_certificate_expiry_timestamp_seconds{{{HERE}}} - time())"
                    " / 86400",
                    "{{instance}} {{door}}",
                ),
            ),
            unit="d",
            needs="TLS",
            runbooks=("CertificateExpiresSoon",),
        ),
    ),
)

BOARD: Final = Board(
    "members",
    "SpecFuse / Members",
    "What the members do, replica by replica.",
    (NAMESPACE, ENSEMBLE, MEMBER),
    (_STANDING, _WORK, _MEMORY),
)
