{{/* Rules between values, each refused with the place, the value and what would be right. */}}
{{- define "groupage.validate" -}}
{{- $found := list -}}
{{- $v := .Values -}}
{{- range $name := list "cluster" "regions" "deployments" "lanes" -}}
{{- if not (get $v.config $name) -}}
{{- $found = append $found (printf "config.%s is empty: write the worker's settings there, as in docs/configuration.md" $name) -}}
{{- end -}}
{{- end -}}
{{- if not $v.credentials.redis.secret -}}
{{- $found = append $found "credentials.redis.secret is empty: name an existing Secret that holds the Redis URL under credentials.redis.dataUrlKey" -}}
{{- end -}}
{{- range $name := list "data_url" "data_url_file" "control_url" "control_url_file" -}}
{{- if hasKey ($v.config.redis | default dict) $name -}}
{{- $found = append $found (printf "config.redis.%s: addresses of Redis are secrets; name a Secret in credentials.redis instead" $name) -}}
{{- end -}}
{{- end -}}
{{- if hasKey ($v.config.encryption | default dict) "keys_dir" -}}
{{- $found = append $found "config.encryption.keys_dir: the chart mounts keys itself; name a Secret for each producer in credentials.encryption" -}}
{{- end -}}
{{- if hasKey ($v.config.gather | default dict) "spool_dir" -}}
{{- $found = append $found "config.gather.spool_dir: the chart mounts the spool itself; set its size by spoolSize" -}}
{{- end -}}
{{- if hasKey ($v.config.log | default dict) "format" -}}
{{- $found = append $found "config.log.format: the chart sets json" -}}
{{- end -}}
{{- if hasKey $v.config "health" -}}
{{- $found = append $found "config.health: the chart sets host and port, because the probes need them" -}}
{{- end -}}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- $found = append $found "serviceAccount.name is empty: serviceAccount.create is false, so name the existing ServiceAccount of the pods" -}}
{{- end -}}
{{- range $place := list "redis" "azure" "collector" -}}
{{- range (index $v.networkPolicy $place).ports -}}
{{- if kindIs "map" . -}}
{{- if lt (int .endPort) (int .port) -}}
{{- $found = append $found (printf "networkPolicy.%s.ports: the range from %d to %d is empty; write {port: LOWEST, endPort: HIGHEST}" $place (int .port) (int .endPort)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found = concat $found (include "groupage.validate.regions" . | fromJsonArray) -}}
{{- $found = concat $found (include "groupage.validate.work" . | fromJsonArray) -}}
{{- if $found -}}
{{- fail (printf "\n\ngroupage: these values cannot work:\n- %s\n" (join "\n- " $found)) -}}
{{- end -}}
{{- end -}}

{{- define "groupage.validate.regions" -}}
{{- $found := list -}}
{{- $v := .Values -}}
{{- range $name, $region := $v.config.regions -}}
{{- range $key := list "api_key" "api_key_file" -}}
{{- if hasKey $region $key -}}
{{- $found = append $found (printf "config.regions.%s.%s: keys are secrets; name a Secret in credentials.regions.%s, {secret: ..., key: ...}" $name $key $name) -}}
{{- end -}}
{{- end -}}
{{- $hasKey := hasKey $v.credentials.regions $name -}}
{{- if and $region.entra $hasKey -}}
{{- $found = append $found (printf "config.regions.%s.entra and credentials.regions.%s: leave one of them" $name $name) -}}
{{- end -}}
{{- if not (or $region.entra $hasKey) -}}
{{- $found = append $found (printf "config.regions.%s has no credential: name a Secret in credentials.regions.%s, or set entra: true" $name $name) -}}
{{- end -}}
{{- if and $region.entra (not $v.workloadIdentity.enabled) -}}
{{- $found = append $found (printf "config.regions.%s.entra needs workloadIdentity.enabled" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $v.credentials.regions -}}
{{- if not (hasKey $v.config.regions $name) -}}
{{- $found = append $found (printf "credentials.regions.%s: there is no such region in config.regions (%s)" $name (join ", " (keys $v.config.regions | sortAlpha))) -}}
{{- end -}}
{{- end -}}
{{- if and $v.workloadIdentity.enabled (not $v.workloadIdentity.clientId) $v.serviceAccount.create -}}
{{- $found = append $found "workloadIdentity.clientId is empty: the client id of the managed identity, a UUID" -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "groupage.validate.work" -}}
{{- $found := list -}}
{{- $v := .Values -}}
{{- range $name, $deployment := $v.config.deployments -}}
{{- if not (hasKey $v.config.regions $deployment.region) -}}
{{- $found = append $found (printf "config.deployments.%s.region = %s: there is no such region (%s)" $name $deployment.region (join ", " (keys $v.config.regions | sortAlpha))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $lane := $v.config.lanes -}}
{{- range $lane.deployments -}}
{{- if not (hasKey $v.config.deployments .) -}}
{{- $found = append $found (printf "config.lanes.%s.deployments: there is no deployment %s (%s)" $name . (join ", " (keys $v.config.deployments | sortAlpha))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.test.lane (not (hasKey $v.config.lanes $v.test.lane)) -}}
{{- $found = append $found (printf "test.lane = %s: there is no such lane (%s)" $v.test.lane (join ", " (keys $v.config.lanes | sortAlpha))) -}}
{{- end -}}
{{- range $pool := list "worker" "heavy" -}}
{{- $scaling := (index $v $pool).autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $found = append $found (printf "%s.autoscaling.minReplicas = %d: is above maxReplicas = %d" $pool (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and $scaling.enabled (eq $v.autoscaling.kind "keda") (not $v.autoscaling.prometheusAddress) -}}
{{- $found = append $found (printf "%s.autoscaling.enabled with kind keda needs autoscaling.prometheusAddress, such as http://prometheus.monitoring:9090" $pool) -}}
{{- end -}}
{{- end -}}
{{- if and $v.prometheusRule.enabled (not $v.prometheusRule.runbookBase) -}}
{{- $found = append $found "prometheusRule.runbookBase is empty: the address below which people can read docs/operations.md, such as https://git.example.net/groupage/; each alert links its runbook there" -}}
{{- end -}}
{{- if and $v.heavy.autoscaling.enabled (not $v.heavy.enabled) -}}
{{- $found = append $found "heavy.autoscaling.enabled has no effect without heavy.enabled" -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
