{{/* What follows from the fuser's values. */}}

{{- define "specfuse.fuser.labels" -}}
{{ include "specfuse.labels" (dict "root" . "component" "fuser") }}
{{- end }}

{{- define "specfuse.fuser.selector" -}}
{{ include "specfuse.selectorOf" (dict "root" . "component" "fuser") }}
{{- end }}

{{/* The name of the fuser's Service within the cluster. */}}
{{- define "specfuse.fuser.host" -}}
{{ include "specfuse.fuser.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{/* The most pods there may be. */}}
{{- define "specfuse.fuser.mostReplicas" -}}
{{- if .Values.fuser.autoscaling.enabled }}{{ int64 .Values.fuser.autoscaling.maxReplicas }}{{ else }}{{ int64 .Values.fuser.replicas }}{{ end -}}
{{- end }}

{{/* "true" if callers are let in that nobody knows. */}}
{{- define "specfuse.fuser.open" -}}
{{- if eq ((.Values.fuser.tenancy | default dict).anonymous | default "") "allow" }}true{{ end -}}
{{- end }}

{{/* "true" if callers are known by keys. */}}
{{- define "specfuse.fuser.keyed" -}}
{{- $keys := .Values.fuser.keys -}}
{{- if or (not (include "specfuse.fuser.open" .)) $keys.existingSecret $keys.file }}true{{ end -}}
{{- end }}

{{/* The Secret with the keys. */}}
{{- define "specfuse.fuser.keysSecret" -}}
{{ .Values.fuser.keys.existingSecret | default (printf "%s-keys" (include "specfuse.fuser.name" .)) }}
{{- end }}

{{/* The Secrets with the fuser's certificates. */}}
{{- define "specfuse.fuser.meshSecret" -}}
{{- $mesh := .Values.tls.mesh -}}
{{- if $mesh.issuerRef.name }}{{ include "specfuse.fuser.name" . }}-mesh-tls{{ else }}{{ $mesh.existingSecrets.fuser }}{{ end -}}
{{- end }}

{{- define "specfuse.fuser.callersSecret" -}}
{{- $callers := .Values.tls.callers -}}
{{- if $callers.issuerRef.name }}{{ include "specfuse.fuser.name" . }}-tls{{ else }}{{ $callers.existingSecret }}{{ end -}}
{{- end }}

{{/* What callers see at both doors. */}}
{{- define "specfuse.fuser.serverTls" -}}
tls:
  certificate: /etc/specfuse/tls/callers/tls.crt
  key: /etc/specfuse/tls/callers/tls.key
  {{- if .Values.tls.callers.clientCa.existingSecret }}
  client_ca: /etc/specfuse/tls/callers/ca.crt
  {{- end }}
{{- end }}

{{/* The section `tenancy`, with what follows from other values. A replica allows its part of every limit: of the most that there may be,
     so that all together never allow more. Where there are no limits, another number of replicas must restart nobody. */}}
{{- define "specfuse.fuser.tenancy" -}}
{{- $found := dict -}}
{{- $said := .Values.fuser.tenancy | default dict -}}
{{- range $team := $said.teams -}}
{{- range $limit := list "requests_in_flight" "requests_per_minute" "output_tokens_per_minute" -}}
{{- if get ($team | default dict) $limit }}{{ $found = set $found "replicas" (include "specfuse.fuser.mostReplicas" $ | int) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if include "specfuse.fuser.keyed" . }}{{ $found = set $found "keys" "/etc/specfuse/keys/keys.yaml" }}{{ end -}}
{{- $tenancy := mergeOverwrite $found (deepCopy $said) -}}
{{- if .Values.fuser.storePassword.existingSecret -}}
{{- $tenancy = set $tenancy "store" (set ($tenancy.store | default dict) "password_file" "/etc/specfuse/store/password") -}}
{{- end -}}
{{- toYaml $tenancy -}}
{{- end }}

{{/* The settings file of the fuser. */}}
{{- define "specfuse.fuser.settings" -}}
{{- $fuser := .Values.fuser -}}
listen: {{ printf "%s:50050" .Values.listenHost | quote }}
metrics_listen: {{ printf "%s:9090" .Values.listenHost | quote }}
{{- if .Values.tls.callers.enabled }}
{{ include "specfuse.fuser.serverTls" . }}
{{- end }}
{{- if $fuser.http.enabled }}
http:
  listen: {{ printf "%s:8000" .Values.listenHost | quote }}
  {{- if .Values.tls.callers.enabled }}
  {{- include "specfuse.fuser.serverTls" . | nindent 2 }}
  {{- end }}
  body_bytes: {{ int64 $fuser.http.bodyBytes }}
  page: {{ toYaml $fuser.http.page }}
{{- end }}
{{- with $fuser.limits }}
limits:
  {{- toYaml . | nindent 2 }}
{{- end }}
tenancy:
  {{- include "specfuse.fuser.tenancy" . | nindent 2 }}
drain_seconds: {{ toYaml $fuser.drainSeconds }}
{{- include "specfuse.telemetry" (dict "root" . "tracing" .Values.tracing) }}
members:
  {{- range $name, $_ := .Values.models }}
  {{ toYaml $name }}:
    kubernetes:
      selector: {{ printf "app.kubernetes.io/instance=%s,specfuse.io/member=%s" $.Release.Name $name }}
      port: grpc
    {{- if $.Values.tls.mesh.enabled }}
    tls:
      ca: /etc/specfuse/tls/mesh/ca.crt
      certificate: /etc/specfuse/tls/mesh/tls.crt
      key: /etc/specfuse/tls/mesh/tls.key
      server_name: {{ include "specfuse.model.host" (dict "root" $ "name" $name) }}
    {{- end }}
  {{- end }}
  {{- with .Values.externalMembers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ensembles:
  {{- toYaml .Values.ensembles | nindent 2 }}
{{- end }}

{{/* By its pod's name it finds its own zone. */}}
{{- define "specfuse.fuser.environment" -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
{{- end }}

{{- define "specfuse.fuser.grace" -}}
{{- $fuser := .Values.fuser -}}
{{- if kindIs "invalid" $fuser.terminationGracePeriodSeconds -}}
{{ add (ceil (addf $fuser.preStopSeconds $fuser.drainSeconds) | int) 15 }}
{{- else -}}
{{ int64 $fuser.terminationGracePeriodSeconds }}
{{- end -}}
{{- end }}

{{/* Whether the process serves. Not whether it has a quorum of members: without one it still says so, and holds what wakes them.
     The gRPC probes of Kubernetes speak no TLS; with it, the HTTP door is asked, unless that wants a certificate of everybody. */}}
{{- define "specfuse.fuser.probe" -}}
{{- $callers := .Values.tls.callers -}}
{{- if not $callers.enabled -}}
grpc: {port: 50050}
{{- else if and .Values.fuser.http.enabled (not (and $callers.clientCa.existingSecret (include "specfuse.fuser.open" .))) -}}
httpGet: {path: /healthz, port: http, scheme: HTTPS}
{{- else -}}
tcpSocket: {port: grpc}
{{- end -}}
{{- end }}
