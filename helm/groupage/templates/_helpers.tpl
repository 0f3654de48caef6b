{{- define "groupage.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "groupage.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "groupage.labels" -}}
{{ include "groupage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: groupage
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "groupage.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "groupage.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "groupage.fullname" .) -}}
{{- end -}}

{{/* The settings file: config, and over it what only the chart knows. */}}
{{- define "groupage.settings" -}}
{{- $config := deepCopy .Values.config -}}
{{- $redis := $config.redis | default dict -}}
{{- $_ := set $redis "data_url_file" "/etc/groupage/secrets/redis/data-url" -}}
{{- if .Values.credentials.redis.controlUrlKey -}}
{{- $_ := set $redis "control_url_file" "/etc/groupage/secrets/redis/control-url" -}}
{{- end -}}
{{- $_ := set $config "redis" $redis -}}
{{- range $name, $_ := .Values.credentials.regions -}}
{{- $_ := set (index $config.regions $name) "api_key_file" (printf "/etc/groupage/secrets/regions/%s" $name) -}}
{{- end -}}
{{- if .Values.credentials.encryption -}}
{{- $_ := set $config "encryption" (dict "keys_dir" "/etc/groupage/keys") -}}
{{- end -}}
{{- $gather := $config.gather | default dict -}}
{{- $_ := set $gather "spool_dir" "/spool" -}}
{{- $_ := set $config "gather" $gather -}}
{{- $log := $config.log | default dict -}}
{{- $_ := set $log "format" "json" -}}
{{- $_ := set $config "log" $log -}}
{{- $_ := set $config "health" (dict "host" "0.0.0.0" "port" 9464) -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What of it is read at start only: `reload.FIXED` of the worker. */}}
{{- define "groupage.fixedSettings" -}}
{{- $settings := include "groupage.settings" . | fromYaml -}}
{{- pick $settings "cluster" "redis" "lease" "health" "http" "log" "encryption" "tracing" | toJson -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: the drain, 10 s for connections to close (app.HARD_END_S), and a reserve. */}}
{{- define "groupage.graceS" -}}
{{- $lease := .Values.config.lease | default dict -}}
{{- add (ceil (float64 ($lease.drain_s | default 20))) 20 -}}
{{- end -}}

{{/* Size of the spool: every heavy step may hold one input file, and a quarter. */}}
{{- define "groupage.spoolSize" -}}
{{- if .Values.spoolSize -}}
{{- .Values.spoolSize -}}
{{- else -}}
{{- $lease := .Values.config.lease | default dict -}}
{{- $gather := .Values.config.gather | default dict -}}
{{- $bytes := mul (int64 ($lease.heavy_jobs | default 4)) (int64 ($gather.file_bytes_max | default 190000000)) -}}
{{- printf "%dMi" (add (div (mul $bytes 5) 4194304) 1) -}}
{{- end -}}
{{- end -}}

{{/* Pod Security `restricted`. */}}
{{- define "groupage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "groupage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Ports of a NetworkPolicy: numbers, or ranges as {port, endPort}. */}}
{{- define "groupage.ports" -}}
{{- range . }}
- {{ if kindIs "map" . }}{port: {{ int .port }}, endPort: {{ int .endPort }}, protocol: TCP}{{ else }}{port: {{ int . }}, protocol: TCP}{{ end }}
{{- end }}
{{- end -}}

{{- define "groupage.secretVolume" -}}
projected:
  defaultMode: 0440
  sources:
    - secret:
        name: {{ .Values.credentials.redis.secret }}
        items:
          - {key: {{ .Values.credentials.redis.dataUrlKey | quote }}, path: redis/data-url}
          {{- with .Values.credentials.redis.controlUrlKey }}
          - {key: {{ . | quote }}, path: redis/control-url}
          {{- end }}
    {{- range $name, $one := .Values.credentials.regions }}
    - secret:
        name: {{ $one.secret }}
        items: [{key: {{ $one.key | quote }}, path: {{ printf "regions/%s" $name | quote }}}]
    {{- end }}
{{- end -}}

{{/* Age of the oldest waiting request, of lanes that have quota for it; 0 for a lane whose deployments are nearly full, paused
     or suspect, because workers do not make quota. Figures are the fleet's: maxima. */}}
{{- define "groupage.scalingQuery" -}}
{{- $in := printf "{namespace=%q}" .Release.Namespace -}}
max(max by (lane) (groupage_lane_oldest_waiting_age_seconds{{ $in }}) * on (lane) (max by (lane) (groupage_lane_room_ratio{{ $in }}) > bool 0.1))
{{- end -}}
