{{- define "gateway.name" -}}
{{- printf "%s-gateway" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "gateway.haproxy" -}}
{{- printf "%s-haproxy" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "gateway.labels" -}}
app.kubernetes.io/name: llava-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: llava-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The most replicas there may be: haproxy knows them all by name, so that a conversation's place stays. */}}
{{- define "gateway.most" -}}
{{- if eq .Values.autoscaling.by "none" -}}{{ .Values.replicas }}{{- else -}}{{ max .Values.replicas .Values.autoscaling.maxReplicas }}{{- end -}}
{{- end -}}

{{/* Seconds from SIGTERM until a replica has ended by itself, with 25 for the engine. */}}
{{- define "gateway.grace" -}}
{{- add (int .Values.settings.drain_delay) (int .Values.settings.shutdown_timeout) 25 -}}
{{- end -}}

{{- define "gateway.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
