{{/* What is right value by value and wrong together. Each template writes a line for every fault, with the remedy; whatever they wrote fails
     the release before anything of it reaches the cluster. */}}

{{- define "specfuse.validate" -}}
{{- $said := list -}}
{{- range $part := list "mesh" "models" "ensembles" "budget" "ways" "tls" "tenancy" "tracing" "tests" -}}
{{- range $line := splitList "\n" (include (printf "specfuse.validate.%s" $part) $) -}}
{{- with trim $line }}{{ $said = append $said . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with $said -}}
{{- fail (printf "\n\nThe values contradict each other:\n- %s\n" (join "\n- " .)) -}}
{{- end -}}
{{- end }}

{{- define "specfuse.validate.mesh" -}}
{{- $dns := "^[a-z]([-a-z0-9]*[a-z0-9])?$" -}}
{{- $fullname := include "specfuse.fullname" . -}}
{{- if not (regexMatch $dns $fullname) }}
fullnameOverride: {{ $fullname }}, of which all names are made, is no DNS name; use small letters, digits and "-", a letter first, as in {{ regexReplaceAll "[^a-z0-9-]+" (lower $fullname) "-" }}
{{- end }}
{{- if gt (len $fullname) 46 }}
fullnameOverride: {{ $fullname }}, of which all names are made, has {{ len $fullname }} characters, and with what comes after it a Service may have 63; say a shorter one of at most 46
{{- end }}
{{- if not (or .Values.models .Values.externalMembers) }}
models: there are none; name at least one, as in models: {llama: {weights: {hub: meta-llama/Llama-3.1-8B-Instruct}}}
{{- end }}
{{- if not .Values.ensembles }}
ensembles: there are none, so nothing could be asked; name one, as in ensembles: {assistant: {members: [{{ keys (.Values.models | default dict) | sortAlpha | join ", " | default "llama, qwen" }}]}}
{{- end }}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled }}
monitoring: podMonitor and serviceMonitor are both enabled, and every number would be counted twice; disable one
{{- end }}
{{- range $name, $_ := .Values.externalMembers }}
{{- if not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$" $name) }}
externalMembers.{{ $name }}: the name may have letters, digits, ".", "_" and "-", at most 63
{{- end }}
{{- if hasKey ($.Values.models | default dict) $name }}
externalMembers.{{ $name }}: there is a model of that name in models, too; rename one
{{- end }}
{{- end }}
{{- with .Values.fuser }}
{{- if le (include "specfuse.fuser.grace" $ | int) (addf .preStopSeconds .drainSeconds 5 | ceil | int) }}
fuser.terminationGracePeriodSeconds: {{ .terminationGracePeriodSeconds }} would end answers that still have time: preStopSeconds {{ .preStopSeconds }} and drainSeconds {{ .drainSeconds }} and 5 must fit in; leave it out, or say more than {{ addf .preStopSeconds .drainSeconds 5 | ceil | int }}
{{- end }}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
fuser.autoscaling.minReplicas: {{ int64 .autoscaling.minReplicas }} is above maxReplicas, {{ int64 .autoscaling.maxReplicas }}; lower it, or raise that
{{- end }}
{{- end }}
{{- end }}

{{- define "specfuse.validate.models" -}}
{{- range $name, $_ := .Values.models }}
{{- $it := dict "root" $ "name" $name "at" (printf "models.%s" $name) }}
{{- include "specfuse.model.complete" $it }}
{{- $model := $it.model }}
{{ include "specfuse.validate.name" $it }}
{{ include "specfuse.validate.backend" $it }}
{{ include "specfuse.validate.weights" $it }}
{{ include "specfuse.validate.gpu" $it }}
{{ include "specfuse.validate.autoscaling" $it }}
{{- if le (include "specfuse.model.grace" $it | int) (addf $model.lingerSeconds $model.drainSeconds 5 | ceil | int) }}
{{ $it.at }}.terminationGracePeriodSeconds: {{ $model.terminationGracePeriodSeconds }} would end answers that still have time: lingerSeconds {{ $model.lingerSeconds }} and drainSeconds {{ $model.drainSeconds }} and 5 must fit in; leave it out, or say more than {{ addf $model.lingerSeconds $model.drainSeconds 5 | ceil | int }}
{{- end }}
{{- end }}
{{- end }}

{{- define "specfuse.validate.name" -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" .name) }}
{{ .at }}: the name is part of DNS names, which have small letters, digits and "-" only; call it {{ regexReplaceAll "[^a-z0-9]+" (lower .name) "-" | trimAll "-" | default "llama" }}, in ensembles as well
{{- else if gt (len (include "specfuse.model.fullname" .)) 63 }}
{{ .at }}: the name of its Service, {{ include "specfuse.model.fullname" . }}, has {{ len (include "specfuse.model.fullname" .) }} characters, and may have 63; shorten the model's name, or say fullnameOverride
{{- end }}
{{- end }}

{{- define "specfuse.validate.backend" -}}
{{- $model := .model -}}
{{- $section := get $model $model.backend | default dict -}}
{{- range $other := list "torch" "vllm" "tgi" "sglang" "llama_cpp" "scripted" }}
{{- if and (ne $other $model.backend) (get (get $.root.Values.models $.name | default dict) $other) }}
{{ $.at }}.{{ $other }}: contradicts backend: {{ $model.backend }}; drop it, or say backend: {{ $other }}
{{- end }}
{{- end }}
{{- if include "specfuse.model.remote" . }}
{{- if and $model.server.image $section.url }}
{{ .at }}.{{ $model.backend }}.url: {{ $section.url }} is elsewhere, and server.image runs a server in the pod; drop one
{{- else if not (or $model.server.image $section.url) }}
{{ .at }}: backend: {{ $model.backend }} asks a server; give server.image, to run one in the pod, or {{ $model.backend }}.url, where one runs already
{{- end }}
{{- if and $section.url (not (regexMatch "^https?://[^/]" $section.url)) }}
{{ .at }}.{{ $model.backend }}.url: {{ $section.url }} is no address of a server; give one as in http://vllm.serving.svc:8000
{{- end }}
{{- else if $model.server.image }}
{{ .at }}.server.image: backend: {{ $model.backend }} asks no server; drop it, or say backend: vllm, tgi, sglang or llama_cpp
{{- end }}
{{- if and (eq $model.backend "scripted") (not $section.lines) }}
{{ .at }}.scripted.lines: backend: scripted needs a script, as in scripted: {lines: [{answer: Hello}]}
{{- end }}
{{- if and (eq $model.backend "torch") $section.model }}
{{ .at }}.torch.model: follows from weights, as volumes and the network do; say weights: {hub: {{ $section.model }}}, or weights: {path: {{ $section.model }}}
{{- end }}
{{- end }}

{{- define "specfuse.validate.weights" -}}
{{- $model := .model -}}
{{- $weights := $model.weights -}}
{{- $section := get $model $model.backend | default dict -}}
{{- $given := list -}}
{{- range $source := list "hub" "claim" "image" }}{{ if get $weights $source }}{{ $given = append $given $source }}{{ end }}{{ end -}}
{{- if and (not $given) $weights.path }}{{ $given = append $given "path" }}{{ end -}}
{{- if gt (len $given) 1 }}
{{ .at }}.weights: {{ join " and " $given }} are both given; a model is in one place, so drop one
{{- end }}
{{- if and $weights.hub $weights.path }}
{{ .at }}.weights.path: {{ $weights.path }} contradicts hub: {{ $weights.hub }}; drop one
{{- end }}
{{- if not $given }}
{{- if eq $model.backend "torch" }}
{{ .at }}.weights: it is nowhere said where the model is; give one of hub, claim, image and path, as in weights: {hub: owner/name, revision: COMMIT}
{{- else if and (include "specfuse.model.remote" .) $model.server.image }}
{{ .at }}.weights: it is nowhere said where the model of the server is; give one of hub, claim, image and path
{{- else if and (include "specfuse.model.remote" .) (not $section.tokenizer) }}
{{ .at }}.{{ $model.backend }}.tokenizer: the model service needs the tokenizer of the server's model; give its id on the hub as weights.hub, or a directory
{{- end }}
{{- end }}
{{- if and (has "path" $given) (not (hasPrefix "/" $weights.path)) }}
{{ .at }}.weights.path: {{ $weights.path }} is relative, to nothing; give an absolute one, or the claim or image that it is in
{{- end }}
{{- if eq $model.backend "llama_cpp" }}
{{- if and $model.server.image $weights.hub }}
{{ .at }}.weights.hub: llama-server runs a GGUF file; put it into a claim or an image, and give that and weights.file
{{- else if and $model.server.image (not $weights.file) }}
{{ .at }}.weights.file: llama-server runs a GGUF file; give its name
{{- end }}
{{- if and (not $section.tokenizer) $model.server.image }}
{{ .at }}.llama_cpp.tokenizer: give the model from which the GGUF file was made, as an id on the hub or as a directory
{{- end }}
{{- end }}
{{- if include "specfuse.model.downloads" . }}
{{- if and $weights.offline (not $weights.cache.existingClaim) }}
{{ .at }}.weights.offline: nothing would ever be in the cache that the chart makes; give weights.cache.existingClaim, with the model in it
{{- end }}
{{- if and $weights.cache.perPod $weights.cache.existingClaim }}
{{ .at }}.weights.cache.perPod: contradicts existingClaim, {{ $weights.cache.existingClaim }}, which all pods share; drop one
{{- else if and (gt (include "specfuse.model.mostReplicas" . | int) 1) (not $weights.cache.existingClaim) (not $weights.cache.perPod) (not (has "ReadWriteMany" $weights.cache.accessModes)) }}
{{ .at }}.weights.cache.accessModes: {{ include "specfuse.model.mostReplicas" . }} pods on several nodes cannot share a ReadWriteOnce claim; say [ReadWriteMany], if the storage class can, or perPod: true, with which each downloads for itself
{{- end }}
{{- end }}
{{- if and $weights.image (semverCompare "<1.33.0-0" .root.Capabilities.KubeVersion.Version) }}
{{ .at }}.weights.image: this is Kubernetes {{ .root.Capabilities.KubeVersion.Version }}, and images are mounted from 1.33 on; use claim or hub
{{- end }}
{{- end }}

{{- define "specfuse.validate.gpu" -}}
{{- $model := .model -}}
{{- $claim := $model.gpu.claim -}}
{{- if and $model.gpu.count (or $claim.deviceClass $claim.existingTemplate) }}
{{ .at }}.gpu: count and claim are both given; give one
{{- end }}
{{- if and $claim.deviceClass $claim.existingTemplate }}
{{ .at }}.gpu.claim: deviceClass and existingTemplate are both given; give one
{{- end }}
{{- if and (or $claim.deviceClass $claim.existingTemplate) (semverCompare "<1.34.0-0" .root.Capabilities.KubeVersion.Version) }}
{{ .at }}.gpu.claim: this is Kubernetes {{ .root.Capabilities.KubeVersion.Version }}, and devices are allocated dynamically from 1.34 on; use gpu.count with a device plugin
{{- end }}
{{- if include "specfuse.model.gpus" . }}
{{- if and (include "specfuse.model.remote" .) (not $model.server.image) }}
{{ .at }}.gpu: nothing in the pod would use it, as the server runs elsewhere; drop it
{{- else if eq $model.backend "scripted" }}
{{ .at }}.gpu: nothing in the pod would use it, as a script answers; drop it
{{- end }}
{{- end }}
{{- if and $model.gpu.count (eq $model.backend "torch") (gt (int (($model.torch | default dict).tensor_parallel | default 1)) (int $model.gpu.count)) }}
{{ .at }}.gpu.count: {{ $model.gpu.count }} is below torch.tensor_parallel, {{ $model.torch.tensor_parallel }}, and each part needs one; raise it
{{- end }}
{{- end }}

{{- define "specfuse.validate.autoscaling" -}}
{{- $scaling := .model.autoscaling -}}
{{- if and $scaling.keda.enabled $scaling.hpa.enabled }}
{{ .at }}.autoscaling: keda and hpa are both enabled, and would undo what the other does; disable one
{{- end }}
{{- if include "specfuse.model.autoscaled" . }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{ .at }}.autoscaling.minReplicas: {{ int64 $scaling.minReplicas }} is above maxReplicas, {{ int64 $scaling.maxReplicas }}; lower it, or raise that
{{- end }}
{{- if and (not .root.Values.prometheus.serverAddress) $scaling.keda.enabled }}
{{ .at }}.autoscaling.keda: KEDA asks a Prometheus; give prometheus.serverAddress, as in http://prometheus-operated.monitoring.svc:9090
{{- end }}
{{- if and $scaling.hpa.enabled (eq (int $scaling.minReplicas) 0) }}
{{ .at }}.autoscaling.minReplicas: a HorizontalPodAutoscaler cannot scale to 0; say 1, or use keda
{{- end }}
{{- end }}
{{- end }}

{{- define "specfuse.validate.ensembles" -}}
{{- $known := concat (keys (.Values.models | default dict)) (keys (.Values.externalMembers | default dict)) | sortAlpha -}}
{{- range $name, $ensemble := .Values.ensembles }}
{{- $at := printf "ensembles.%s" $name }}
{{- if not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$" $name) }}
{{ $at }}: the name may have letters, digits, ".", "_" and "-", at most 63
{{- end }}
{{- $members := $ensemble.members | default list }}
{{- $size := len $members }}
{{- range $member := uniq $members }}
{{- if not (has $member $known) }}
{{ $at }}.members: there is no model {{ $member }}; add it to models, or name one that is there: {{ join ", " $known | default "none" }}
{{- end }}
{{- end }}
{{- if lt (len (uniq $members)) $size }}
{{ $at }}.members: one is listed twice; list each once
{{- end }}
{{- if and $members (gt (float64 ($ensemble.quorum | default 1)) (float64 $size)) }}
{{ $at }}.quorum: {{ $ensemble.quorum }} is more than its members, {{ $size }}, so it could never answer; use 1 to {{ $size }}
{{- end }}
{{- $exit := $ensemble.exit | default dict }}
{{- if and $members (gt (float64 ($exit.min_models | default 1)) (float64 $size)) }}
{{ $at }}.exit.min_models: {{ $exit.min_models }} is more than its members, {{ $size }}; use 1 to {{ $size }}
{{- end }}
{{- include "specfuse.validate.waking" (dict "root" $ "at" $at "ensemble" $ensemble) }}
{{- end }}
{{- end }}

{{- define "specfuse.validate.waking" -}}
{{- $wake := float64 (.ensemble.wake_seconds | default 0) -}}
{{- $timeout := float64 (.ensemble.request_timeout_seconds | default 600) -}}
{{- if ge $wake $timeout }}
{{ .at }}.wake_seconds: {{ $wake }} leaves no time of request_timeout_seconds, {{ $timeout }}, to answer; lower it, or raise that
{{- end }}
{{- range $member := .ensemble.members }}
{{- if hasKey ($.root.Values.models | default dict) $member }}
{{- $it := dict "root" $.root "name" $member }}
{{- include "specfuse.model.complete" $it }}
{{- $scaling := $it.model.autoscaling }}
{{- if and $scaling.keda.enabled (eq (int $scaling.minReplicas) 0) (le $wake 0.0) }}
{{ $.at }}.wake_seconds: is 0, and its member {{ $member }} may be scaled to 0, when every question would be refused; say how long a question may wait for it to load, as in wake_seconds: 300
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The accelerators that the models may take together, as JSON, by what they are called. */}}
{{- define "specfuse.gpuTotals" -}}
{{- $totals := dict -}}
{{- range $name, $_ := .Values.models -}}
{{- $it := dict "root" $ "name" $name -}}
{{- include "specfuse.model.complete" $it -}}
{{- $gpu := $it.model.gpu -}}
{{- $most := include "specfuse.model.mostReplicas" $it | int -}}
{{- if $gpu.count -}}
{{- $totals = set $totals $gpu.resource (add (get $totals $gpu.resource | default 0) (mul $gpu.count $most)) -}}
{{- else if or $gpu.claim.deviceClass $gpu.claim.existingTemplate -}}
{{- $class := $gpu.claim.deviceClass | default $gpu.claim.existingTemplate -}}
{{- $totals = set $totals $class (add (get $totals $class | default 0) (mul $gpu.claim.count $most)) -}}
{{- end -}}
{{- end -}}
{{- toJson $totals -}}
{{- end }}

{{- define "specfuse.validate.budget" -}}
{{- if .Values.gpuBudget }}
{{- range $resource, $total := include "specfuse.gpuTotals" . | fromJson }}
{{- $budget := get $.Values.gpuBudget $resource | default 0 }}
{{- if gt (int $total) (int $budget) }}
gpuBudget: the models may take {{ $total }} of {{ $resource }}, with as many pods as their autoscalers may make, and {{ int $budget }} is the budget; raise it, or lower replicas or autoscaling.maxReplicas
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.resourceQuota.enabled (not (or .Values.gpuBudget .Values.resourceQuota.hard)) }}
resourceQuota: there is nothing to hold to; give gpuBudget, or resourceQuota.hard
{{- end }}
{{- end }}

{{- define "specfuse.validate.ways" -}}
{{- with .Values.fuser }}
{{- $ways := list }}
{{- if .httpRoute.enabled }}{{ $ways = append $ways "httpRoute" }}{{ end }}
{{- if .ingress.enabled }}{{ $ways = append $ways "ingress" }}{{ end }}
{{- range $way := $ways }}
{{- if not $.Values.fuser.http.enabled }}
fuser.{{ $way }}: leads to the HTTP door, and fuser.http.enabled is false; say true, or disable the {{ $way }}
{{- end }}
{{- end }}
{{- $passesOn := regexMatch "ssl-passthrough\":\"true\"" (toJson .ingress.annotations) }}
{{- if and $.Values.tls.callers.clientCa.existingSecret (include "specfuse.fuser.open" $) }}
{{- range $way := $ways }}
{{- if not (and (eq $way "ingress") $passesOn) }}
fuser.{{ $way }}: ends the callers' TLS, and their certificates (tls.callers.clientCa) are all that is asked of them (fuser.tenancy.anonymous: allow), so it would let in nobody, or, with a certificate of its own, everybody; say anonymous: refuse, and have callers send keys, or drop clientCa, or disable the {{ $way }}, and say service: {type: LoadBalancer}
{{- end }}
{{- end }}
{{- end }}
{{- if gt (len $ways) 1 }}
fuser: httpRoute and ingress are both enabled; the cluster has a Gateway or an Ingress controller, so disable one
{{- end }}
{{- range $way := list "httpRoute" "grpcRoute" }}
{{- $route := get $.Values.fuser $way }}
{{- if and $route.enabled (not $route.parentRefs) }}
fuser.{{ $way }}.parentRefs: belongs to no Gateway; name one, as in [{name: public, namespace: gateways}]
{{- end }}
{{- end }}
{{- if and .grpcRoute.enabled $.Values.tls.callers.clientCa.existingSecret }}
fuser.grpcRoute: the gRPC door asks every caller for a certificate (tls.callers.clientCa), and a Gateway that ends TLS can show none of theirs; disable the route, and say service: {type: LoadBalancer}, or drop clientCa
{{- end }}
{{- if and .ingress.enabled (not .ingress.hosts) }}
fuser.ingress.hosts: there are none; name one, as in [ask.example]
{{- end }}
{{- end }}
{{- end }}

{{- define "specfuse.validate.tls" -}}
{{- $mesh := .Values.tls.mesh }}
{{- $callers := .Values.tls.callers }}
{{- $secrets := or $mesh.existingSecrets.fuser $mesh.existingSecrets.models }}
{{- if $mesh.enabled }}
{{- if and $mesh.issuerRef.name $secrets }}
tls.mesh: issuerRef and existingSecrets are both given; drop one
{{- else if not $mesh.issuerRef.name }}
{{- if not $mesh.existingSecrets.fuser }}
tls.mesh: it is nowhere said who issues certificates; give issuerRef.name, of cert-manager, or existingSecrets for the fuser and every model
{{- end }}
{{- range $name, $_ := .Values.models }}
{{- if and $mesh.existingSecrets.fuser (not (get ($mesh.existingSecrets.models | default dict) $name)) }}
tls.mesh.existingSecrets.models: has none for {{ $name }}; add {{ $name }}: SECRET, with a certificate for {{ include "specfuse.model.host" (dict "root" $ "name" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := $mesh.existingSecrets.models }}
{{- if not (hasKey ($.Values.models | default dict) $name) }}
tls.mesh.existingSecrets.models.{{ $name }}: there is no such model; drop it
{{- end }}
{{- end }}
{{- else if or $mesh.issuerRef.name $secrets }}
tls.mesh: certificates are given, and enabled is false; say enabled: true, or drop them
{{- end }}
{{- if $callers.enabled }}
{{- if and $callers.issuerRef.name $callers.existingSecret }}
tls.callers: issuerRef and existingSecret are both given; drop one
{{- else if not (or $callers.issuerRef.name $callers.existingSecret) }}
tls.callers: it is nowhere said who issues the certificate; give issuerRef.name, of cert-manager, or existingSecret
{{- end }}
{{- else if or $callers.issuerRef.name $callers.existingSecret $callers.clientCa.existingSecret }}
tls.callers: certificates are given, and enabled is false; say enabled: true, or drop them
{{- end }}
{{- end }}

{{- define "specfuse.validate.tenancy" -}}
{{- $tenancy := .Values.fuser.tenancy | default dict }}
{{- $keys := .Values.fuser.keys }}
{{- if $tenancy.keys }}
fuser.tenancy.keys: follows from fuser.keys; give the Secret there
{{- end }}
{{- if and $keys.existingSecret $keys.file }}
fuser.keys: existingSecret and file are both given; drop one
{{- end }}
{{- if and .Values.fuser.storePassword.existingSecret (not $tenancy.store) }}
fuser.storePassword: there is no fuser.tenancy.store to log in to; give its url, or drop the password
{{- end }}
{{- range $name, $team := $tenancy.teams }}
{{- if and $team $team.certificates (not $.Values.tls.callers.clientCa.existingSecret) }}
fuser.tenancy.teams.{{ $name }}.certificates: nobody is asked for one; give tls.callers.clientCa, or drop them
{{- end }}
{{- range $ensemble := ($team | default dict).ensembles }}
{{- if not (hasKey ($.Values.ensembles | default dict) $ensemble) }}
fuser.tenancy.teams.{{ $name }}.ensembles: there is no ensemble {{ $ensemble }}; there are: {{ keys ($.Values.ensembles | default dict) | sortAlpha | join ", " }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "specfuse.validate.tracing" -}}
{{- $endpoint := (.Values.tracing | default dict).endpoint }}
{{- if and .Values.tracing (not $endpoint) }}
tracing.endpoint: it is nowhere said where traces go; give host:port of a receiver of OTLP over gRPC, as in otel-collector.monitoring:4317, or drop tracing
{{- end }}
{{- if and $endpoint (not (regexMatch "^[^/]+:[0-9]+$" $endpoint)) }}
tracing.endpoint: {{ $endpoint }} is not host:port of a receiver of OTLP over gRPC; give one as in otel-collector.monitoring:4317
{{- end }}
{{- if and .Values.networkPolicy.collector (not $endpoint) }}
networkPolicy.collector: nothing is sent to it; give tracing.endpoint, or drop it
{{- end }}
{{- end }}

{{- define "specfuse.validate.tests" -}}
{{- if .Values.tests.enabled }}
{{- if and .Values.tests.ensemble (not (hasKey (.Values.ensembles | default dict) .Values.tests.ensemble)) }}
tests.ensemble: there is no ensemble {{ .Values.tests.ensemble }}; there are: {{ keys (.Values.ensembles | default dict) | sortAlpha | join ", " }}
{{- end }}
{{- if and .Values.tls.callers.clientCa.existingSecret (not .Values.tests.clientCertificate) }}
tests.clientCertificate: the gRPC door asks every caller for a certificate, and `helm test` would have none; name a Secret with one, or say tests.enabled: false
{{- end }}
{{- end }}
{{- end }}
