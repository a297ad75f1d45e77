{{/* The specification of a Certificate of cert-manager: (dict "tls" VALUES "secret" NAME "names" LIST "usages" LIST). */}}
{{- define "specfuse.certificate" -}}
secretName: {{ toYaml .secret }}
issuerRef:
  name: {{ toYaml .tls.issuerRef.name }}
  kind: {{ toYaml .tls.issuerRef.kind }}
  group: {{ toYaml .tls.issuerRef.group }}
duration: {{ toYaml .tls.duration }}
renewBefore: {{ toYaml .tls.renewBefore }}
privateKey:
  algorithm: ECDSA
  size: 256
  # Every certificate has a key of its own.
  rotationPolicy: Always
usages:
  {{- toYaml .usages | nindent 2 }}
dnsNames:
  {{- toYaml .names | nindent 2 }}
{{- end }}
