# shellcheck shell=bash disable=SC2034,SC2154
# Used by deploy.sh: the steps that change something. Each may be done again after a failure.

enable_apis() {
  WRITING=yes
  [ "$FOUND" = no ] || return 0
  step "Switch on the APIs that are needed"
  local apis=(artifactregistry cloudbuild iam logging run secretmanager)
  [ "$CLASSIC" = no ] || apis+=(cloudfunctions)
  run gcloud services enable "${apis[@]/%/.googleapis.com}" "${FLAGS[@]}"
}

# The function's own account may do nothing but read the function's secrets.
make_account() {
  STEP="Look for the account that it runs as"
  ask_if_there account gcloud iam service-accounts describe "$ACCOUNT" --format='value(email)' \
    "${FLAGS[@]}"
  [ ! -s "$WORK/account" ] || return 0
  NEW_ACCOUNT=yes
  step "Make the account that it runs as: $ACCOUNT"
  run gcloud iam service-accounts create "$NAME-run" --display-name="Chatkeep $NAME" "${FLAGS[@]}"
  MADE+=("the account $ACCOUNT")
  run_when_known gcloud iam service-accounts describe "$ACCOUNT" --format='value(email)' \
    "${FLAGS[@]}"
}
NEW_ACCOUNT=no

# In a new project the account that builds has no rights.
let_it_build() {
  [ "$FOUND" = no ] || return 0
  step "Let Cloud Build's account build"
  local builder=BUILD_ACCOUNT grant
  ask builder gcloud builds get-default-service-account --region="$REGION" \
    --format='value(serviceAccountEmail)' "${FLAGS[@]}" || stop_with_error
  [ "$DRY_RUN" = yes ] || builder=$(sed 's:.*/::' "$WORK/builder")
  grant=(gcloud projects add-iam-policy-binding "$PROJECT" --role=roles/run.builder
    --member="serviceAccount:$builder" --condition=None)
  [ "$DRY_RUN" = no ] || { show "${grant[@]}" "${FLAGS[@]}"; return; }
  "${grant[@]}" "${FLAGS[@]}" >"$WORK/out" 2>"$WORK/err" </dev/null || {
    say "  You may not grant that role. If the build is refused, ask an owner of the project for:"
    say "  $(show "${grant[@]}")"
  }
}

store_secrets() {
  local variable secret version
  while read -r variable secret version; do
    if [ "$version" = new ]; then
      step "Store $variable in Secret Manager as $secret"
      store_secret "$variable" "$secret"
      version=VERSION
      [ "$DRY_RUN" = yes ] || version=$(sed 's:.*/::' "$WORK/out")
    elif [ "$NEW_ACCOUNT" = yes ]; then
      step "Let the new account read $secret"
      allow_to_read "$secret"
    fi
    SECRET_FLAGS+=${SECRET_FLAGS:+,}$variable=$secret:$version
    STORED+=("$secret:$version")
  done <"$WORK/compared"
}
SECRET_FLAGS="" STORED=()

# The version comes last: a secret that has one may also be read.
store_secret() {
  if [[ $KNOWN_SECRETS != *" $2 "* ]]; then
    run gcloud secrets create "$2" --replication-policy=automatic --labels="chatkeep=$NAME" \
      "${FLAGS[@]}"
  fi
  allow_to_read "$2"
  run gcloud secrets versions add "$2" --data-file="$WORK/secrets/$1" --format='value(name)' \
    "${FLAGS[@]}"
  MADE+=("a version of the secret $2")
}

allow_to_read() {
  run_when_known gcloud secrets add-iam-policy-binding "$1" \
    --role=roles/secretmanager.secretAccessor --member="serviceAccount:$ACCOUNT" "${FLAGS[@]}"
}

# Exactly what runs, in a folder of its own: gcloud refuses --base-image where a Dockerfile lies.
stage_sources() {
  mkdir "$WORK/source"
  tar -cf - --exclude='__pycache__' --exclude='*.py[co]' --exclude='.*' --exclude='*~' \
    --exclude='*.rdb' --exclude='*.aof' --exclude='*.log' --exclude='node_modules' \
    main.py requirements.txt chat | tar -xf - -C "$WORK/source"
  # Cloud Build reads as somebody else.
  chmod -R a+rX "$WORK/source"
}

deploy_revision() {
  step "Build and deploy $NAME: this takes some minutes"
  local command=(gcloud run deploy "$NAME" --function=main --base-image="${RUNTIME:-python314}")
  [ "$CLASSIC" = no ] || command=(gcloud functions deploy "$NAME" --gen2 --entry-point=main
    --runtime="${RUNTIME:-python314}" --trigger-http)
  command+=(--region="$REGION" --source="$WORK/source" --flags-file="$WORK/flags.json")
  [ -z "$SECRET_FLAGS" ] || command+=(--update-secrets="$SECRET_FLAGS")
  command+=("${FLAGS[@]}")
  first_flags
  wished_flags
  command+=(${wished[@]+"${wished[@]}"})
  if [ "$DRY_RUN" = yes ]; then
    show "${command[@]}"
    say "# with this as flags.json:" "$(cat "$WORK/flags.json")"
  else
    "${command[@]}" </dev/null
  fi
  MADE+=("a revision of $NAME")
  read_the_service
}

# What later deploys leave as it is in the cloud.
first_flags() {
  wished=()
  [ "$FOUND" = no ] || return 0
  if [ "$CLASSIC" = yes ]; then
    wished=(--run-service-account="$ACCOUNT" --update-labels="chatkeep=$NAME" --concurrency=200
      --cpu=1 --memory=512Mi --timeout=900s)
  else
    wished=(--service-account="$ACCOUNT" --labels="chatkeep=$NAME" --concurrency=200 --cpu=1
      --memory=512Mi --timeout=900 --cpu-boost)
  fi
  MIN=${MIN:-0} MAX=${MAX:-20}
  [ -n "$PUBLIC" ] || PUBLIC=yes
}

# With AUTH=open the model key pays for whoever reaches it: IAM guards it unless --public is said.
wished_flags() {
  [ "$OPEN" = no ] || [ "$WISHED_PUBLIC" = yes ] || PUBLIC=no
  [ -z "$MIN" ] || wished+=(--min-instances="$MIN")
  [ -z "$MAX" ] || wished+=(--max-instances="$MAX")
  case $PUBLIC in
    yes) wished+=(--allow-unauthenticated) ;;
    no) wished+=(--no-allow-unauthenticated) ;;
  esac
  [ "$CANARY" = no ] || wished+=(--no-traffic --tag=canary)
}

read_the_service() {
  ask service.json gcloud run services describe "$NAME" --region="$REGION" --format=json \
    "${FLAGS[@]}" || stop_with_error
  URL=https://URL CANARY_URL=https://CANARY_URL TO_NEWEST=no NEWEST=REVISION
  [ "$DRY_RUN" = yes ] || read -r URL TO_NEWEST CANARY_URL NEWEST < <(state traffic)
}

# After a rollback or a canary, traffic stays where it was sent until it is sent on.
send_traffic_to_the_newest() {
  [ "$TO_NEWEST" = no ] || return 0
  step "Send all traffic to the newest revision"
  run gcloud run services update-traffic "$NAME" --region="$REGION" --to-latest "${FLAGS[@]}"
  read_the_service
}

wait_until_healthy() {
  step "Wait until $1/health answers"
  local try code
  caller_headers
  [ "$DRY_RUN" = no ] || { show curl -sS -H "@$WORK/caller" "$1/health"; return; }
  for try in 1 2 3 4 5 6 7 8 9 10; do
    code=$(curl -s -o "$WORK/health" -w '%{http_code}' --max-time 20 -H "@$WORK/caller" \
      "$1/health") || code=000
    [ "$code" != 200 ] || return 0
    [ "$code" != 403 ] || { say_why_forbidden; REACHED=no; return 0; }
    sleep "$try"
  done
  say "It answers $code: $(head -c 300 "$WORK/health" 2>/dev/null)" >&2
  say "What it says itself: ./deploy.sh $NAME --logs" >&2
  exit 1
}

REACHED=yes

say_why_forbidden() {
  say "  IAM does not let you in from here. If it should be public: ./deploy.sh $NAME --public" \
    "  Where the organisation forbids that, this may be allowed:" \
    "  gcloud run services update $NAME --region=$REGION --no-invoker-iam-check"
}

# What a caller sends to come past IAM to a function that is not public.
caller_headers() {
  : >"$WORK/caller"
  [ "$PUBLIC" = no ] && [ "$DRY_RUN" = no ] || return 0
  local token
  token=$(gcloud auth print-identity-token 2>/dev/null) || return 0
  printf 'X-Serverless-Authorization: Bearer %s\n' "$token" >"$WORK/caller"
}

# Versions that neither what serves nor what a rollback goes to still reads.
destroy_old_secrets() {
  local one secret number
  for one in ${STORED[@]+"${STORED[@]}"}; do
    secret=${one%:*}
    [[ ${one##*:} =~ ^([2-9]|[0-9]{2,})$ ]] || continue
    [ -s "$WORK/revisions.json" ] || read_revisions
    ask versions.json gcloud secrets versions list "$secret" --filter=state=enabled --format=json \
      "${FLAGS[@]}" || stop_with_error
    for number in $(state unused "$secret"); do
      step "Destroy version $number of $secret, which nothing reads any more"
      run gcloud secrets versions destroy "$number" --secret="$secret" "${FLAGS[@]}"
    done
  done
}

read_revisions() {
  ask revisions.json gcloud run revisions list --service="$NAME" --region="$REGION" --format=json \
    "${FLAGS[@]}" || stop_with_error
}
