{{/* What the number of a model's pods follows from, each as one series, as KEDA needs. All take (dict "root" $ "name" NAME "model" VALUES). */}}

{{/* "true" if the chart says what collects metrics, and so that their series have the release's name, too. */}}
{{- define "specfuse.scaling.ofTheRelease" -}}
{{- if or .root.Values.monitoring.podMonitor.enabled .root.Values.monitoring.serviceMonitor.enabled }}true{{ end -}}
{{- end }}

{{/* The labels that every query asks for. Another release in the namespace may have a model of the same name. */}}
{{- define "specfuse.scaling.here" -}}
namespace={{ .root.Release.Namespace | quote }}
{{- if include "specfuse.scaling.ofTheRelease" . }},app_kubernetes_io_instance={{ .root.Release.Name | quote }}{{ end }}
{{- with .root.Values.prometheus.matchers }},{{ . }}{{ end }}
{{- end }}

{{/* Answers that count on the model, of all fusers. */}}
{{- define "specfuse.scaling.sessions" -}}
sum(specfuse_member_sessions{model_name={{ .name | quote }},{{ include "specfuse.scaling.here" . }}})
{{- end }}

{{/* 1 while anything is asked of the model's ensembles, whoever left it early; nothing if there are none. */}}
{{- define "specfuse.scaling.awake" -}}
{{- $ensembles := list -}}
{{- range $name, $ensemble := .root.Values.ensembles -}}
{{- if has $.name $ensemble.members }}{{ $ensembles = append $ensembles ($name | replace "." "\\\\.") }}{{ end -}}
{{- end -}}
{{- with $ensembles -}}
clamp_max(sum(specfuse_ensemble_sessions{ensemble=~"{{ join "|" . }}",{{ include "specfuse.scaling.here" $ }}}), 1)
{{- end -}}
{{- end }}

{{/* Calls that wait for a place, in the model service and, where there is one, in the server behind it, of all pods. Without pods there is
     no queue, which is no fault. */}}
{{- define "specfuse.scaling.queue" -}}
{{- $matchers := printf "model_name=%q,%s" .name (include "specfuse.scaling.here" .) -}}
{{- if include "specfuse.model.remote" . -}}
(sum(specfuse_model_requests_waiting{ {{- $matchers -}} }) or vector(0)) + (sum(specfuse_model_server_requests_waiting{ {{- $matchers -}} }) or vector(0))
{{- else -}}
sum(specfuse_model_requests_waiting{ {{- $matchers -}} }) or vector(0)
{{- end -}}
{{- end }}

{{/* A trigger of KEDA: (dict ... "trigger" "sessions" "query" PROMQL "threshold" NUMBER). That a query finds nothing is a fault, of the
     collection or of the query, and must not look like rest, so it is no null to ignore: replicas stay, or fall back. */}}
{{- define "specfuse.scaling.trigger" -}}
- type: prometheus
  name: {{ .trigger }}
  metadata:
    serverAddress: {{ toYaml .root.Values.prometheus.serverAddress }}
    query: {{ .query | replace "'" "''" | squote }}
    threshold: {{ .threshold | quote }}
    activationThreshold: "0"
    ignoreNullValues: "false"
  {{- with .root.Values.prometheus.authenticationRef }}
  authenticationRef:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
