# shellcheck shell=bash disable=SC2034,SC2154
# Used by deploy.sh: all that can be wrong, looked at before anything is changed.

check_options() {
  local pattern='^[a-z][a-z0-9-]{0,24}[a-z0-9]$'
  [ -n "$NAME" ] || fail "Which function? ./deploy.sh my-chat"
  [[ $NAME =~ $pattern ]] || fail "$NAME cannot be its name: 2 to 26 of a-z, 0-9 and -," \
    "a letter first, no - at the end. Google names the service and its account after it."
  [[ ${RUNTIME:-python314} =~ ^python31[1-4]$ ]] ||
    fail "--runtime: python311, python312, python313 or python314, not $RUNTIME."
  [[ $MIN$MAX =~ ^[0-9]*$ ]] || fail "--min and --max: whole numbers."
  WISHED_PUBLIC=$PUBLIC
  [[ -z $PUBLIC || $PUBLIC =~ ^(yes|no)$ ]] || fail "PUBLIC: yes or no, not $PUBLIC."
  [ "$CANARY$CLASSIC" != yesyes ] ||
    fail "gcloud functions deploy knows no canary: leave out --classic, or --canary."
  command -v gcloud >/dev/null ||
    fail "gcloud is missing: https://cloud.google.com/sdk/docs/install"
  command -v curl >/dev/null || fail "curl is missing: install it with your package manager."
}

check_settings() {
  [ -f .env ] || fail "There is no .env here: cp .env.example .env, and fill in its first lines."
  find_python
  find_packages
  python deploy_settings check "$WORK" || exit 1
  local fact
  while read -r fact; do
    case $fact in
      auth=*) AUTH=${fact#*=} ;;
      redis_region=*) REDIS_REGION=${fact#*=} ;;
      redis_host=*) REDIS_HOST=${fact#*=} ;;
    esac
  done <"$WORK/facts"
  local secret
  for secret in $(cd "$WORK/secrets" && ls); do SECRETS+=("$secret"); done
  [ "$AUTH" != open ] && [[ $AUTH != *open* ]] || OPEN=yes
}
AUTH="" REDIS_REGION="" REDIS_HOST="" OPEN=no SECRETS=()

find_project() {
  local account
  # The separator keeps an empty first value in its place.
  IFS='|' read -r project account region < <(
    gcloud config list --format='value[separator="|"](core.project,core.account,run.region)' \
      2>/dev/null) || true
  PROJECT=${PROJECT:-$project}
  CONFIGURED_REGION=$region
  [ -n "$account" ] || fail "gcloud is not logged in: gcloud auth login"
  [ -n "$PROJECT" ] || fail "No project is set: gcloud config set project PROJECT"
  ACCOUNT=$NAME-run@$PROJECT.iam.gserviceaccount.com
  FLAGS=(--project="$PROJECT" --quiet)
}
ACCOUNT="" CONFIGURED_REGION="" FLAGS=()

ping_redis() {
  [ "$PING$DRY_RUN" = yesno ] || return 0
  python deploy_settings ping "$WORK" || fail \
    "If only the cloud can reach it (a VPC, an allow-list): --no-ping deploys all the same."
}

# Is it deployed, where, and by us?
look_at_the_service() {
  ask_if_there services.json gcloud run services list --filter="metadata.name=$NAME" \
    --format=json "${FLAGS[@]}"
  local region ours classic
  read -r FOUND region ours classic < <(state service "$NAME" "$REGION")
  [ -n "$FOUND" ] || exit 1
  [ "$FOUND" = yes ] || return 0
  REGION=$region
  [ "$ours" = yes ] || fail "There is a service $NAME in $region already, not made by deploy.sh." \
    "Choose another name, or hand it over:" \
    "  gcloud run services update $NAME --region=$region --update-labels=chatkeep=$NAME"
  [ "$ACTION" != deploy ] || [ "$classic" = "$CLASSIC" ] ||
    fail "$NAME was deployed $([ "$classic" = yes ] && echo with || echo without) --classic:" \
      "do the same, or delete it first."
  CLASSIC=$classic
}
FOUND=no

choose_region() {
  [ -z "$REGION" ] || return 0
  REGION=${CONFIGURED_REGION:-$REDIS_REGION}
  if [ -z "$REGION" ] && [ -t 0 ]; then
    say "In which region? Best where Redis ($REDIS_HOST) is; Upstash shows that of each database."
    read -r -p "Region [us-central1]: " REGION
    REGION=${REGION:-us-central1}
  fi
  [ -n "$REGION" ] || fail "In which region? The name of the Redis host does not say where it is." \
    "Choose the nearest to it: --region us-central1, europe-west1, asia-northeast1, ..."
  say "- Region $REGION$([ "$REGION" != "$REDIS_REGION" ] || echo ", next to Redis")"
}

# Which secrets are new or changed: the values that Secret Manager has are read, and compared here.
compare_secrets() {
  [ "$CANARY" = no ] || [ "$FOUND" = yes ] || [ "$DRY_RUN" = yes ] ||
    fail "There is no $NAME yet to put a canary beside: deploy it without --canary first."
  ask_if_there secrets.txt gcloud secrets list --filter="labels.chatkeep=$NAME" \
    --format='value(name.basename())' "${FLAGS[@]}"
  local variable secret
  for variable in ${SECRETS[@]+"${SECRETS[@]}"}; do
    secret=$(secret_of "$variable")
    : >"$WORK/now/$variable"
    grep -qx "$secret" "$WORK/secrets.txt" || continue
    KNOWN_SECRETS+=" $secret "
    # Whoever may not read a secret writes a new version of it each time.
    ask "now/$variable" gcloud secrets versions access latest --secret="$secret" --format=json \
      "${FLAGS[@]}" || : >"$WORK/now/$variable"
  done
  state secrets "$NAME" >"$WORK/compared"
}
KNOWN_SECRETS=""

secret_of() { printf '%s-%s' "$NAME" "$(tr 'A-Z_' 'a-z-' <<<"$1")"; }

prepare_flags() {
  local kept
  kept=$(state flags "$PROJECT")
  [ -z "$kept" ] || say "- Kept as they are in the cloud, since .env does not name them: $kept"
}
