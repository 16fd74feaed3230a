{{- define "odradek.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for the suffixes of a pod's name, of its revision label and of the headless Service. */}}
{{- define "odradek.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $whole := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $whole .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "odradek.headless" -}}
{{- include "odradek.fullname" . }}-workers
{{- end -}}

{{- define "odradek.selector" -}}
app.kubernetes.io/name: {{ include "odradek.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "odradek.labels" -}}
{{ include "odradek.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "odradek.serviceAccount" -}}
{{- default (ternary (include "odradek.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "odradek.image" -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "odradek.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "odradek.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What librdkafka is told about encryption and identity. An option's variable is its name in capitals, dots as underscores. */}}
{{- define "odradek.kafkaEnv" -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- $tls := .Values.kafka.tls -}}
{{- $folder := "/etc/odradek/kafka-tls" -}}
{{- if and $tls.existingSecret (not $tls.enabled) }}
{{- fail "kafka.tls.existingSecret is set but kafka.tls.enabled is false: enable it, or empty the name" }}
{{- end }}
{{- if ne (empty $tls.certKey) (empty $tls.keyKey) }}
{{- fail "kafka.tls: mutual TLS needs both certKey and keyKey" }}
{{- end }}
{{- if or $sasl.existingSecret $tls.enabled }}
- name: ODRADEK_KAFKA_SECURITY_PROTOCOL
  value: {{ ternary (ternary "SASL_SSL" "SSL" (ne $sasl.existingSecret "")) "SASL_PLAINTEXT" $tls.enabled }}
{{- end }}
{{- with $sasl.existingSecret }}
- name: ODRADEK_KAFKA_SASL_MECHANISM
  value: {{ $sasl.mechanism | quote }}
- name: ODRADEK_KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef: {name: {{ . | quote }}, key: {{ $sasl.usernameKey | quote }}}
{{- if $.Values.kafka.secretsAsFiles }}
- name: ODRADEK_KAFKA_SASL_PASSWORD_FILE
  value: {{ printf "/etc/odradek/kafka-sasl/%s" $sasl.passwordKey | quote }}
{{- else }}
- name: ODRADEK_KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ . | quote }}, key: {{ $sasl.passwordKey | quote }}}
{{- end }}
{{- end }}
{{- if and $tls.enabled $tls.existingSecret }}
{{- range $option, $key := dict "SSL_CA_LOCATION" $tls.caKey "SSL_CERTIFICATE_LOCATION" $tls.certKey "SSL_KEY_LOCATION" $tls.keyKey }}
{{- if $key }}
- name: ODRADEK_KAFKA_{{ $option }}
  value: {{ printf "%s/%s" $folder $key | quote }}
{{- end }}
{{- end }}
{{- with $tls.keyPasswordKey }}
{{- if $.Values.kafka.secretsAsFiles }}
- name: ODRADEK_KAFKA_SSL_KEY_PASSWORD_FILE
  value: {{ printf "%s/%s" $folder . | quote }}
{{- else }}
- name: ODRADEK_KAFKA_SSL_KEY_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $tls.existingSecret | quote }}, key: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- range $option, $value := .Values.kafka.properties }}
- name: ODRADEK_KAFKA_{{ $option | upper | replace "." "_" }}
  value: {{ include "odradek.text" $value | quote }}
{{- end }}
{{- end -}}

{{/* A number as written: values arrive as floats, and 1000000 would become 1e+06. */}}
{{- define "odradek.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* Ports of the brokers, as JSON: given, or those of kafka.bootstrapServers. */}}
{{- define "odradek.kafkaPorts" -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.egress.kafkaPorts }}{{ $ports = append $ports (int .) }}{{ end -}}
{{- if not $ports }}{{ range splitList "," .Values.kafka.bootstrapServers }}{{ $ports = append $ports (last (splitList ":" .) | int) }}{{ end }}{{ end -}}
{{- uniq $ports | toJson -}}
{{- end -}}
