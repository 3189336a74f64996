{{- define "heteroscale.name" -}}
{{- if contains "heteroscale" .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-heteroscale" .Release.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "heteroscale.selector" -}}
app.kubernetes.io/name: heteroscale
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "heteroscale.labels" -}}
{{ include "heteroscale.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "heteroscale.metadata" -}}
name: {{ include "heteroscale.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "heteroscale.labels" . | nindent 2 }}
{{- end }}

{{/* What files.cluster says, or nothing. */}}
{{- define "heteroscale.cluster" -}}
{{- $cluster := .Values.files.cluster | fromYaml }}
{{- if hasKey $cluster "Error" }}{{ fail (printf "files.cluster is no YAML: %s" $cluster.Error) }}{{ end }}
{{- toYaml $cluster }}
{{- end }}

{{/* Every namespace with workloads, once, in order. */}}
{{- define "heteroscale.namespaces" -}}
{{- $cluster := include "heteroscale.cluster" . | fromYaml }}
{{- $found := concat .Values.namespaces ($cluster.namespaces | default list) }}
{{- range $cluster.workloads }}
{{- $found = append $found (.namespace | default "default") }}
{{- end }}
{{- toYaml ($found | uniq | sortAlpha) }}
{{- end }}

{{/* The Lease's namespace and name. */}}
{{- define "heteroscale.lease" -}}
{{- $said := (include "heteroscale.cluster" . | fromYaml).lease | default dict }}
namespace: {{ $said.namespace | default .Values.lease.namespace | default .Release.Namespace }}
name: {{ $said.name | default .Values.lease.name }}
{{- end }}

{{- define "heteroscale.configMap" -}}
{{ .Values.configMap | default (include "heteroscale.name" .) }}
{{- end }}

{{/* Whether the chart makes the ConfigMap: all three files, or none. */}}
{{- define "heteroscale.ownFiles" -}}
{{- $given := list }}
{{- range $name, $text := .Values.files }}{{ if $text }}{{ $given = append $given $name }}{{ end }}{{ end }}
{{- if and $given (ne (len $given) 3) }}
{{- fail (printf "files: all of services, metrics and cluster, or none; got %s" (join ", " $given)) }}
{{- end }}
{{- if and $given .Values.configMap }}{{ fail "either files or configMap, not both" }}{{ end }}
{{- if $given }}true{{ end }}
{{- end }}

{{- define "heteroscale.replicas" -}}
{{- .Values.replicas | default (ternary 2 1 .Values.act) }}
{{- end }}
