{{/* One Deployment of workers. Takes root, pool ("worker" or "heavy"), only ("light", "heavy" or ""). */}}
{{- define "groupage.pool" -}}
{{- $root := .root -}}
{{- $pool := index .root.Values .pool -}}
{{- with .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "groupage.fullname" . }}-{{ $.pool }}
  labels:
    {{- include "groupage.labels" . | nindent 4 }}
    app.kubernetes.io/component: {{ $.pool }}
spec:
  {{- if not $pool.autoscaling.enabled }}
  replicas: {{ $pool.replicas }}
  {{- end }}
  # a new worker is ready before an old one goes; more at once gains nothing, because the work is shared
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels:
      {{- include "groupage.selector" . | nindent 6 }}
      app.kubernetes.io/component: {{ $.pool }}
  template:
    metadata:
      labels:
        {{- include "groupage.labels" . | nindent 8 }}
        app.kubernetes.io/component: {{ $.pool }}
        groupage/role: worker
        {{- if .Values.workloadIdentity.enabled }}
        azure.workload.identity/use: "true"
        {{- end }}
      annotations:
        # of what workers read at start only: the rest reaches them by the mounted file, without a restart
        checksum/settings: {{ include "groupage.fixedSettings" . | sha256sum }}
        {{- with $pool.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "groupage.serviceAccount" . }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "groupage.graceS" . }}
      securityContext:
        {{- include "groupage.podSecurity" . | nindent 8 }}
      {{- with .Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
      {{- with index $pool $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "groupage.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.pool }}
        {{- end }}
      containers:
        - name: worker
          image: {{ include "groupage.image" . }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args: [groupage-worker, run{{ with $.only }}, --only, {{ . }}{{ end }}]
          securityContext:
            {{- include "groupage.containerSecurity" . | nindent 12 }}
          env:
            # by the environment, so that `kubectl exec ... -- groupage status` finds them as well
            - {name: GROUPAGE_CONFIG, value: /etc/groupage/settings/worker.yaml}
            {{- with $pool.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: metrics, containerPort: 9464}
          # live: the event loop runs. A Redis that is away must not restart the fleet in a loop
          livenessProbe:
            httpGet: {path: /live, port: metrics}
            initialDelaySeconds: 10
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          # ready: started, Redis answers, leases are renewed, no stop was asked for
          readinessProbe:
            httpGet: {path: /ready, port: metrics}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          resources:
            {{- toYaml $pool.resources | nindent 12 }}
          volumeMounts:
            # folders, because a file that is mounted by subPath never changes
            - {name: settings, mountPath: /etc/groupage/settings, readOnly: true}
            - {name: secrets, mountPath: /etc/groupage/secrets, readOnly: true}
            - {name: spool, mountPath: /spool}
            {{- range $place, $producer := keys .Values.credentials.encryption | sortAlpha }}
            - {name: keys-{{ $place }}, mountPath: /etc/groupage/keys/{{ $producer }}, readOnly: true}
            {{- end }}
      volumes:
        - name: settings
          configMap: {name: {{ include "groupage.fullname" . }}}
        - name: secrets
          {{- include "groupage.secretVolume" . | nindent 10 }}
        - name: spool
          emptyDir: {sizeLimit: {{ include "groupage.spoolSize" . }}}
        # a volume each, so that a key added to a Secret arrives without an upgrade
        {{- range $place, $producer := keys .Values.credentials.encryption | sortAlpha }}
        - name: keys-{{ $place }}
          secret: {secretName: {{ index $root.Values.credentials.encryption $producer }}, defaultMode: 0440}
        {{- end }}
{{- end }}
{{- end -}}
