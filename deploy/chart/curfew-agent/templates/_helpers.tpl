{{- define "curfew-agent.labels" -}}
app.kubernetes.io/name: curfew-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
curfew.dev/protected: "true"
{{- end -}}
