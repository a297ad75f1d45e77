{{/* What follows from a model's values. All take (dict "root" $ "name" NAME "model" VALUES), where the values are complete: */}}

{{/* Puts a model's values, and the defaults of those that it leaves out, into the dictionary that has its name. */}}
{{- define "specfuse.model.complete" -}}
{{- $said := get (.root.Values.models | default dict) .name | default dict -}}
{{- $_ := set . "model" (mergeOverwrite (deepCopy .root.Values.modelDefaults) (deepCopy $said)) -}}
{{- end }}

{{- define "specfuse.model.fullname" -}}
{{ include "specfuse.fullname" .root }}-model-{{ .name }}
{{- end }}

{{/* The name of a model's Service within the cluster, which is the name in its certificate. */}}
{{- define "specfuse.model.host" -}}
{{ include "specfuse.model.fullname" . }}.{{ .root.Release.Namespace }}.svc
{{- end }}

{{- define "specfuse.model.labels" -}}
{{ include "specfuse.labels" (dict "root" .root "component" "model" "member" .name) }}
{{- end }}

{{- define "specfuse.model.selector" -}}
{{ include "specfuse.selectorOf" (dict "root" .root "component" "model" "member" .name) }}
{{- end }}

{{/* "true" if the backend asks a server. */}}
{{- define "specfuse.model.remote" -}}
{{- if has .model.backend (list "vllm" "tgi" "sglang" "llama_cpp") }}true{{ end -}}
{{- end }}

{{/* "true" if the server is a sidecar. */}}
{{- define "specfuse.model.sidecar" -}}
{{- if and (include "specfuse.model.remote" .) .model.server.image }}true{{ end -}}
{{- end }}

{{/* "true" if pods have accelerators. */}}
{{- define "specfuse.model.gpus" -}}
{{- if or .model.gpu.count .model.gpu.claim.deviceClass .model.gpu.claim.existingTemplate }}true{{ end -}}
{{- end }}

{{/* How many accelerators a pod has. */}}
{{- define "specfuse.model.devices" -}}
{{- if .model.gpu.count }}{{ int .model.gpu.count }}{{ else if include "specfuse.model.gpus" . }}{{ int .model.gpu.claim.count }}{{ else }}0{{ end -}}
{{- end }}

{{/* The most pods there may be. */}}
{{- define "specfuse.model.mostReplicas" -}}
{{- if or .model.autoscaling.keda.enabled .model.autoscaling.hpa.enabled }}{{ int64 .model.autoscaling.maxReplicas }}{{ else }}{{ int64 .model.replicas }}{{ end -}}
{{- end }}

{{/* "true" if the number of pods is an autoscaler's. */}}
{{- define "specfuse.model.autoscaled" -}}
{{- if or .model.autoscaling.keda.enabled .model.autoscaling.hpa.enabled }}true{{ end -}}
{{- end }}

{{/* "true" if a pod has to end before the next one begins: it has what the next one needs, and there is no second one. */}}
{{- define "specfuse.model.inPlace" -}}
{{- if include "specfuse.model.gpus" . -}}
true
{{- else if include "specfuse.model.ownCache" . -}}
{{- if not (has "ReadWriteMany" .model.weights.cache.accessModes) }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* "true" if the pod has the model from the hub. Who asks a server elsewhere has only its tokenizer, which needs no cache. */}}
{{- define "specfuse.model.downloads" -}}
{{- if and .model.weights.hub (or (eq .model.backend "torch") (include "specfuse.model.sidecar" .)) }}true{{ end -}}
{{- end }}

{{/* "true" if the chart makes a claim for the cache. */}}
{{- define "specfuse.model.ownCache" -}}
{{- $cache := .model.weights.cache -}}
{{- if and (include "specfuse.model.downloads" .) (not $cache.existingClaim) (not $cache.perPod) }}true{{ end -}}
{{- end }}

{{/* What the model is to whoever loads it: an id on the hub, or a directory. */}}
{{- define "specfuse.model.location" -}}
{{- $weights := .model.weights -}}
{{- if $weights.hub -}}
{{ $weights.hub }}
{{- else if or $weights.claim $weights.image -}}
/models{{ with $weights.path }}/{{ trimPrefix "/" . }}{{ end }}
{{- else -}}
{{ $weights.path }}
{{- end -}}
{{- end }}

{{/* The tokenizer that the settings of a server give: an id on the hub, or a directory. */}}
{{- define "specfuse.model.tokenizer" -}}
{{- if include "specfuse.model.remote" . }}{{ (get .model .model.backend | default dict).tokenizer | default "" }}{{ end -}}
{{- end }}

{{/* "true" if the hub is asked: for the model, or for a tokenizer. */}}
{{- define "specfuse.model.asksHub" -}}
{{- $tokenizer := include "specfuse.model.tokenizer" . -}}
{{- if or .model.weights.offline (eq .model.backend "scripted") -}}
{{- else if or .model.weights.hub (and $tokenizer (not (hasPrefix "/" $tokenizer))) -}}
true
{{- end -}}
{{- end }}

{{/* The port of a server's address: of http://host:8080/path, 8080. */}}
{{- define "specfuse.model.urlPort" -}}
{{- $host := regexReplaceAll "^https?://([^/]*).*$" . "${1}" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end }}

{{/* CPUs in whole numbers, as threads are counted; nothing if resources say none. */}}
{{- define "specfuse.model.threads" -}}
{{- $resources := .model.resources | default dict -}}
{{- $limits := $resources.limits | default dict -}}
{{- $requests := $resources.requests | default dict -}}
{{- $cpu := toString ($limits.cpu | default $requests.cpu | default "") -}}
{{- if hasSuffix "m" $cpu -}}
{{ max 1 (div (add (trimSuffix "m" $cpu | int) 999) 1000) }}
{{- else if $cpu -}}
{{ max 1 (ceil (float64 $cpu) | int) }}
{{- end -}}
{{- end }}

{{/* The settings file of the model service. */}}
{{- define "specfuse.model.settings" -}}
{{- $model := .model -}}
{{- $section := deepCopy (get $model $model.backend | default dict) -}}
{{- $found := dict -}}
{{- if ne $model.backend "scripted" -}}
{{- $found = set $found "local_files_only" (not (include "specfuse.model.asksHub" .)) -}}
{{- /* A tokenizer that is given is of another repository than the weights, so neither is its revision theirs. */ -}}
{{- if and $model.weights.revision (not (include "specfuse.model.tokenizer" .)) }}{{ $found = set $found "revision" $model.weights.revision }}{{ end -}}
{{- end -}}
{{- if eq $model.backend "torch" -}}
{{- $found = set $found "model" (include "specfuse.model.location" .) -}}
{{- with include "specfuse.model.threads" . }}{{ $found = set $found "threads" (int .) }}{{ end -}}
{{- $devices := include "specfuse.model.devices" . | int -}}
{{- if gt $devices 1 }}{{ $found = set $found "tensor_parallel" $devices }}{{ end -}}
{{- else if include "specfuse.model.remote" . -}}
{{- $found = set $found "start_seconds" $model.startupSeconds -}}
{{- $found = set $found "tokenizer" (include "specfuse.model.location" .) -}}
{{- if include "specfuse.model.sidecar" . }}{{ $found = set $found "url" (printf "http://127.0.0.1:%v" $model.server.port) }}{{ end -}}
{{- end -}}
{{- $section = mergeOverwrite $found $section -}}
name: {{ toYaml .name }}
listen: {{ printf "%s:50051" .root.Values.listenHost | quote }}
metrics_listen: {{ printf "%s:9091" .root.Values.listenHost | quote }}
{{- if .root.Values.tls.mesh.enabled }}
tls:
  certificate: /etc/specfuse/tls/tls.crt
  key: /etc/specfuse/tls/tls.key
  client_ca: /etc/specfuse/tls/ca.crt
{{- end }}
backend: {{ toYaml $model.backend }}
{{ $model.backend }}:
  {{- toYaml $section | nindent 2 }}
{{- with $model.limits }}
limits:
  {{- toYaml . | nindent 2 }}
{{- end }}
linger_seconds: {{ toYaml $model.lingerSeconds }}
{{- /* Its callers are the fusers: traces would be torn where it does not trust them. */}}
{{- include "specfuse.telemetry" (dict "root" .root "tracing" (pick (.root.Values.tracing | default dict) "endpoint" "tls")) }}
drain_seconds: {{ toYaml $model.drainSeconds }}
{{- end }}

{{- define "specfuse.model.grace" -}}
{{ $model := .model -}}
{{- if kindIs "invalid" $model.terminationGracePeriodSeconds -}}
{{ add (ceil (addf $model.lingerSeconds $model.drainSeconds) | int) 15 }}
{{- else -}}
{{ int64 $model.terminationGracePeriodSeconds }}
{{- end -}}
{{- end }}

{{/* The Secret with the model's certificate. */}}
{{- define "specfuse.model.tlsSecret" -}}
{{- $mesh := .root.Values.tls.mesh -}}
{{- if $mesh.issuerRef.name -}}
{{ include "specfuse.model.fullname" . }}-tls
{{- else -}}
{{ get ($mesh.existingSecrets.models | default dict) .name }}
{{- end -}}
{{- end }}

{{/* The claim that the cache is kept in; nothing if every pod has its own. */}}
{{- define "specfuse.model.cacheClaim" -}}
{{- $cache := .model.weights.cache -}}
{{- if $cache.existingClaim -}}
{{ $cache.existingClaim }}
{{- else if not $cache.perPod -}}
{{ include "specfuse.model.fullname" . }}-cache
{{- end -}}
{{- end }}

{{/* The specification of a claim for the cache. */}}
{{- define "specfuse.model.cacheSpec" -}}
{{- $cache := .model.weights.cache -}}
accessModes:
  {{- toYaml $cache.accessModes | nindent 2 }}
{{- with $cache.storageClass }}
storageClassName: {{ toYaml . }}
{{- end }}
resources:
  requests:
    storage: {{ toYaml $cache.size }}
{{- end }}

{{/* Resources of the container that runs the model: (dict ... "resources" VALUES). Extended resources are requested by their limit. */}}
{{- define "specfuse.model.acceleratedResources" -}}
{{- $resources := deepCopy (.resources | default dict) -}}
{{- $gpu := .model.gpu -}}
{{- if $gpu.count -}}
{{- $resources = set $resources "limits" (set ($resources.limits | default dict) $gpu.resource $gpu.count) -}}
{{- else if include "specfuse.model.gpus" . -}}
{{- $resources = set $resources "claims" (list (dict "name" "accelerators")) -}}
{{- end -}}
{{- with $resources -}}
resources:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

{{/* The environment of whoever loads the model: paths, and no secrets. Programs of torch ask for their user's name, which an image need
     not know. */}}
{{- define "specfuse.model.environment" -}}
- {name: HOME, value: /tmp}
- {name: USER, value: specfuse}
{{- if include "specfuse.model.downloads" . }}
- {name: HF_HOME, value: /cache}
{{- end }}
{{- if include "specfuse.model.asksHub" . }}
{{- if .model.weights.token.existingSecret }}
- {name: HF_TOKEN_PATH, value: /etc/hub/token}
{{- end }}
{{- with .model.weights.endpoint }}
- {name: HF_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- else }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- end }}

{{/* Where whoever loads the model has its files. */}}
{{- define "specfuse.model.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "specfuse.model.sharedMemory" . }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- if or .model.weights.claim .model.weights.image }}
- {name: weights, mountPath: /models, readOnly: true}
{{- end }}
{{- if include "specfuse.model.downloads" . }}
- {name: cache, mountPath: /cache}
{{- end }}
{{- if and (include "specfuse.model.asksHub" .) .model.weights.token.existingSecret }}
- {name: hub-token, mountPath: /etc/hub, readOnly: true}
{{- end }}
{{- with .model.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "specfuse.model.sharedMemory" -}}
{{- if kindIs "invalid" .model.sharedMemory -}}
{{- if include "specfuse.model.gpus" . }}1Gi{{ end -}}
{{- else -}}
{{ .model.sharedMemory }}
{{- end -}}
{{- end }}

{{- define "specfuse.model.volumes" -}}
{{- $weights := .model.weights -}}
- name: settings
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "specfuse.model.fullname" . }}
          items:
            - {key: model.yaml, path: model.yaml}
      {{- if .root.Values.tls.mesh.enabled }}
      - secret:
          name: {{ include "specfuse.model.tlsSecret" . | toYaml }}
          items:
            - {key: tls.crt, path: tls/tls.crt}
            - {key: tls.key, path: tls/tls.key}
            - {key: ca.crt, path: tls/ca.crt}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ toYaml .model.tmp }}
{{- with include "specfuse.model.sharedMemory" . }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ toYaml . }}
{{- end }}
{{- if $weights.claim }}
- name: weights
  persistentVolumeClaim:
    claimName: {{ toYaml $weights.claim }}
    readOnly: true
{{- else if $weights.image }}
- name: weights
  image:
    reference: {{ toYaml $weights.image }}
    pullPolicy: {{ toYaml .root.Values.image.pullPolicy }}
{{- else if include "specfuse.model.downloads" . }}
- name: cache
  {{- with include "specfuse.model.cacheClaim" . }}
  persistentVolumeClaim:
    claimName: {{ toYaml . }}
  {{- else }}
  ephemeral:
    volumeClaimTemplate:
      metadata:
        labels:
          {{- include "specfuse.model.selector" . | nindent 10 }}
      spec:
        {{- include "specfuse.model.cacheSpec" . | nindent 8 }}
  {{- end }}
{{- end }}
{{- if and (include "specfuse.model.asksHub" .) $weights.token.existingSecret }}
- name: hub-token
  secret:
    secretName: {{ toYaml $weights.token.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ toYaml $weights.token.key }}, path: token}
{{- end }}
{{- with .model.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What a claim for devices asks for. */}}
{{- define "specfuse.model.claimSpec" -}}
{{- $claim := .model.gpu.claim -}}
devices:
  requests:
    - name: accelerators
      exactly:
        deviceClassName: {{ toYaml $claim.deviceClass }}
        allocationMode: ExactCount
        count: {{ toYaml $claim.count }}
        {{- with $claim.selectors }}
        selectors:
          {{- range . }}
          - cel:
              expression: {{ . | quote }}
          {{- end }}
        {{- end }}
{{- end }}

{{/* The name of the template of claims. It has a part of what it asks for, as a template can never be changed. */}}
{{- define "specfuse.model.claimTemplate" -}}
{{ include "specfuse.model.fullname" . }}-{{ include "specfuse.model.claimSpec" . | sha256sum | trunc 8 }}
{{- end }}

{{/* The claims of a pod for devices. */}}
{{- define "specfuse.model.resourceClaims" -}}
{{- $claim := .model.gpu.claim -}}
{{- if or $claim.deviceClass $claim.existingTemplate -}}
resourceClaims:
  - name: accelerators
    resourceClaimTemplateName: {{ $claim.existingTemplate | default (include "specfuse.model.claimTemplate" .) | toYaml }}
{{- end -}}
{{- end }}

{{/* How often to look until the time for the start is over. A port that is open says little of a model over TLS, but its service opens it
     when the model is loaded, and fusers ask for its health themselves; the probes of Kubernetes speak no TLS. */}}
{{- define "specfuse.model.probe" -}}
{{- if .root.Values.tls.mesh.enabled -}}
tcpSocket: {port: grpc}
{{- else -}}
grpc: {port: 50051}
{{- end -}}
{{- end }}
