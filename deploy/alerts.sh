# shellcheck shell=bash disable=SC2034,SC2154
# Used by deploy.sh: log-based metrics, alert policies and a dashboard, from deploy/monitoring.

# Policies and a dashboard that are there may have been changed by hand: they stay. To have one made
# anew, delete it. Metrics are brought up to date.
alerts() {
  find_it
  WRITING=yes
  step "Switch on the APIs"
  run gcloud services enable logging.googleapis.com monitoring.googleapis.com "${FLAGS[@]}"
  local file
  for file in deploy/monitoring/metric-*.json; do apply_metric "$file"; done
  for file in deploy/monitoring/alert-*.json; do apply_policy "$(for_service "$file")"; done
  apply_dashboard "$(for_service deploy/monitoring/dashboard.json)"
  say "" "They are at https://console.cloud.google.com/monitoring?project=$PROJECT" \
    "Nobody is told of an alert until a channel is: make one there (Alerting, Edit notification" \
    "channels), then CHANNEL=projects/$PROJECT/notificationChannels/... ./deploy.sh $NAME --alerts"
}

# A copy of a file with the service's name in it.
for_service() {
  sed "s/SERVICE/$NAME/g" "$1" >"$WORK/$(basename "$1")"
  printf '%s' "$WORK/$(basename "$1")"
}

# A project's metrics are those of all its services; filters tell them apart.
apply_metric() {
  local metric verb=update
  metric=$(basename "$1" .json)
  metric=${metric#metric-}
  step "Log-based metric $metric"
  ask_if_there metric gcloud logging metrics describe "$metric" --format='value(name)' "${FLAGS[@]}"
  [ -s "$WORK/metric" ] || verb=create
  run gcloud logging metrics "$verb" "$metric" --config-from-file="$1" "${FLAGS[@]}"
}

apply_policy() {
  local alert there=""
  alert=$(basename "$1" .json)
  alert=${alert#alert-}
  step "Alert policy $alert"
  find_there alpha monitoring policies list \
    --filter="userLabels.chatkeep=$NAME AND userLabels.alert=$alert"
  read -r there <"$WORK/there" || true
  if [ -z "$there" ]; then
    run gcloud alpha monitoring policies create --policy-from-file="$1" \
      ${CHANNEL:+--notification-channels="$CHANNEL"} "${FLAGS[@]}"
  elif [ -n "${CHANNEL:-}" ]; then
    run gcloud alpha monitoring policies update "$there" \
      --add-notification-channels="$CHANNEL" "${FLAGS[@]}"
  fi
}

apply_dashboard() {
  step "Dashboard"
  find_there monitoring dashboards list --filter="displayName='Chatkeep: $NAME'"
  [ -s "$WORK/there" ] ||
    run gcloud monitoring dashboards create --config-from-file="$1" "${FLAGS[@]}"
}

find_there() { ask_if_there there gcloud "$@" --format='value(name)' "${FLAGS[@]}"; }
