{{/* The inference server as a sidecar. All take (dict "root" $ "name" NAME "model" VALUES), where the values are complete. */}}

{{/* The command line with which each kind of server says what a model service needs: docs/backends.md has the reasons. */}}
{{- define "specfuse.server.command" -}}
{{- $model := .model -}}
{{- $location := include "specfuse.model.location" . -}}
{{- $port := $model.server.port | toString -}}
{{- $command := list -}}
{{- if eq $model.backend "vllm" -}}
{{- $command = list "vllm" "serve" $location "--host" "127.0.0.1" "--port" $port "--enable-prompt-tokens-details" "--generation-config" "vllm" -}}
{{- else if eq $model.backend "sglang" -}}
{{- $command = list "python3" "-m" "sglang.launch_server" "--model-path" $location "--host" "127.0.0.1" "--port" $port "--enable-metrics" "--enable-deterministic-inference" -}}
{{- else if eq $model.backend "tgi" -}}
{{- $command = list "text-generation-launcher" "--model-id" $location "--hostname" "127.0.0.1" "--port" $port "--enable-prefill-logprobs" -}}
{{- if not (include "specfuse.model.gpus" .) }}{{ $command = concat $command (list "--max-batch-size" "1") }}{{ end -}}
{{- else -}}
{{- $command = list "/app/llama-server" "--model" (printf "%s/%s" $location $model.weights.file) "--host" "127.0.0.1" "--port" $port "--metrics" -}}
{{- if not (include "specfuse.model.gpus" .) }}{{ $command = concat $command (list "--cache-type-k" "f32" "--cache-type-v" "f32" "--flash-attn" "off") }}{{ end -}}
{{- end -}}
{{- if and $model.weights.hub $model.weights.revision (ne $model.backend "llama_cpp") }}{{ $command = concat $command (list "--revision" $model.weights.revision) }}{{ end -}}
{{- $command = concat $command (include "specfuse.server.split" . | fromYamlArray) -}}
{{- concat ($model.server.command | default $command) ($model.server.args | default list) | toYaml -}}
{{- end }}

{{/* The arguments that split the model over the pod's accelerators, unless `server.args` say how. llama-server does so by itself. */}}
{{- define "specfuse.server.split" -}}
{{- $devices := include "specfuse.model.devices" . -}}
{{- $flag := get (dict "vllm" "--tensor-parallel-size" "sglang" "--tensor-parallel-size" "tgi" "--num-shard") .model.backend -}}
{{- if and $flag (gt (int $devices) 1) (not (regexMatch (printf "(^| )%s( |=|$)" $flag) (join " " .model.server.args))) -}}
{{- list $flag $devices | toYaml -}}
{{- end -}}
{{- end }}

{{/* Its environment: that of whoever loads the model, and what a server wants to be told in this way. */}}
{{- define "specfuse.server.environment" -}}
{{ include "specfuse.model.environment" . }}
{{- if eq .model.backend "sglang" }}
- {name: SGLANG_RETURN_ORIGINAL_LOGPROB, value: "1"}
{{- end }}
{{- end }}

{{- define "specfuse.server.container" -}}
{{- $server := .model.server -}}
- name: server
  image: {{ toYaml $server.image }}
  imagePullPolicy: {{ toYaml .root.Values.image.pullPolicy }}
  # Ends after the model service, which may have answers to finish on it.
  restartPolicy: Always
  command:
    {{- include "specfuse.server.command" . | nindent 4 }}
  {{- include "specfuse.environment" (dict "own" (include "specfuse.server.environment" .) "given" $server.env) | nindent 2 }}
  {{- with $server.livenessProbe }}
  livenessProbe:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "specfuse.model.acceleratedResources" (merge (dict "resources" $server.resources) .) }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "specfuse.securityContext" (mergeOverwrite (deepCopy .root.Values.containerSecurityContext) (deepCopy ($server.securityContext | default dict))) | nindent 4 }}
  volumeMounts:
    {{- include "specfuse.model.mounts" . | nindent 4 }}
{{- end }}
