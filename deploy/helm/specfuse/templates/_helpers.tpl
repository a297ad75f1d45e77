{{/* Names, labels and what all pods have. */}}

{{- define "specfuse.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The beginning of all names. */}}
{{- define "specfuse.fullname" -}}
{{- $name := include "specfuse.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ .Release.Name }}-{{ $name }}
{{- end -}}
{{- end }}

{{- define "specfuse.fuser.name" -}}
{{ include "specfuse.fullname" . }}-fuser
{{- end }}

{{/* What selects everything of the release. */}}
{{- define "specfuse.selector" -}}
app.kubernetes.io/name: {{ include "specfuse.name" . | toYaml }}
app.kubernetes.io/instance: {{ toYaml .Release.Name }}
{{- end }}

{{/* What selects a part of the release: (dict "root" $ "component" "fuser"). */}}
{{- define "specfuse.selectorOf" -}}
{{ include "specfuse.selector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- with .member }}
specfuse.io/member: {{ toYaml . }}
{{- end }}
{{- end }}

{{/* The labels of an object: (dict "root" $ "component" "model" "member" NAME), of which the root alone is required. */}}
{{- define "specfuse.labels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: specfuse
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "specfuse.selector" .root }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .member }}
specfuse.io/member: {{ toYaml . }}
{{- end }}
{{- end }}

{{/* The labels of a pod: those of its object, but for what changes with every version, so that an upgrade of the chart alone
     restarts nothing. */}}
{{- define "specfuse.podLabels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{- with .extra }}
{{- toYaml . }}
{{ end -}}
app.kubernetes.io/part-of: specfuse
{{ include "specfuse.selectorOf" . }}
{{- end }}

{{/* An image: (dict "root" $ "image" VALUES "suffix" "-cuda"). The suffix is of the tag, where none is given for this image. */}}
{{- define "specfuse.image" -}}
{{- $registry := .root.Values.image.registry | default "" | trimSuffix "/" -}}
{{- $name := .image.repository -}}
{{- if $registry }}{{ $name = printf "%s/%s" $registry $name }}{{ end -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ .image.tag | default (printf "%s%s" (.root.Values.image.tag | default .root.Chart.AppVersion) (.suffix | default "")) }}
{{- end -}}
{{- end }}

{{- define "specfuse.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

{{/* A security context without what is left to the cluster. */}}
{{- define "specfuse.securityContext" -}}
{{- $said := dict -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $said = set $said $key $value }}{{ end }}
{{- end }}
{{- toYaml $said }}
{{- end }}

{{/* The affinities of a pod: where the others are, by zone, and those that are given. (dict "root" $ "given" VALUES) */}}
{{- define "specfuse.affinity" -}}
{{- $affinity := deepCopy (.given | default dict) -}}
{{- $sameZone := .root.Values.placement.sameZone -}}
{{- if ne $sameZone "ignore" -}}
{{- $labels := dict "app.kubernetes.io/name" (include "specfuse.name" .root) "app.kubernetes.io/instance" .root.Release.Name -}}
{{- $term := dict "topologyKey" .root.Values.placement.zoneKey "labelSelector" (dict "matchLabels" $labels) -}}
{{- $pods := $affinity.podAffinity | default dict -}}
{{- if eq $sameZone "require" -}}
{{- $key := "requiredDuringSchedulingIgnoredDuringExecution" -}}
{{- $pods = set $pods $key (append (get $pods $key | default list) $term) -}}
{{- else -}}
{{- $key := "preferredDuringSchedulingIgnoredDuringExecution" -}}
{{- $pods = set $pods $key (append (get $pods $key | default list) (dict "weight" 100 "podAffinityTerm" $term)) -}}
{{- end -}}
{{- $affinity = set $affinity "podAffinity" $pods -}}
{{- end -}}
{{- with $affinity -}}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

{{/* How a part's pods are spread: (dict "root" $ "component" "fuser" "member" NAME "given" VALUES). Pods of another revision do not
     count, as they go. */}}
{{- define "specfuse.spread" -}}
topologySpreadConstraints:
  {{- if .given }}
  {{- toYaml .given | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "specfuse.selectorOf" . | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* The environment of a container: the chart's variables, as YAML, and those that are given, which take the place of those of the same name.
     (dict "own" YAML "given" LIST) */}}
{{- define "specfuse.environment" -}}
{{- $names := list -}}
{{- range .given }}{{ $names = append $names .name }}{{ end -}}
{{- $all := list -}}
{{- range fromYamlArray .own -}}
{{- if not (has .name $names) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- with concat $all (.given | default list) -}}
env:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

{{/* Who may read metrics, as a rule of a NetworkPolicy: (dict "root" $ "port" 9090). No rule if nobody may. */}}
{{- define "specfuse.metricsIngress" -}}
{{- with .root.Values.networkPolicy.monitoring -}}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {port: {{ $.port }}, protocol: TCP}
{{- end }}
{{- end }}

{{- define "specfuse.dnsEgress" -}}
{{- with .Values.networkPolicy.dns -}}
- to:
    {{- toYaml .to | nindent 4 }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end -}}
{{- end }}

{{/* What a service is told of traces and logs: a dict of `root`, and of `tracing`, of which each has its part. */}}
{{- define "specfuse.telemetry" -}}
{{- with .tracing }}
tracing:
  {{- toYaml . | nindent 2 }}
{{- end }}
log_format: {{ toYaml .root.Values.logFormat }}
{{- end }}

{{/* To the collector. */}}
{{- define "specfuse.tracingEgress" -}}
{{- with (.Values.tracing | default dict).endpoint -}}
- ports:
    - {port: {{ regexFind "[0-9]+$" . }}, protocol: TCP}
  {{- with $.Values.networkPolicy.collector }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
