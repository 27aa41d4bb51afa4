# shellcheck shell=bash disable=SC2034,SC2154
# Used by deploy.sh: the first user, what is said at the end, and what comes after a deploy.

# A key for the first user, once; it is kept in a file that curl reads, and shown to nobody.
make_first_user() {
  KEY=.deploy/$NAME.key
  [[ $AUTH == *keys* ]] && [ "$REACHED" = yes ] && [ ! -s "$KEY" ] || return 0
  step "Make a first user, and keep its key in $KEY"
  local call=(curl -sS -X POST -H "@$WORK/admin" -H "@$WORK/caller" -d '{}' "$URL/admin/users/add")
  [ "$DRY_RUN" = no ] || { show "${call[@]}"; return; }
  { printf 'Authorization: '; cat "$WORK/secrets/ADMIN_KEY"; } >"$WORK/admin"
  "${call[@]}" --max-time 60 -H 'Content-Type: application/json' -o "$WORK/user.json"
  mkdir -p .deploy
  local token
  token=$(state token)
  # Written whole or not at all: half a key would be taken for one.
  printf 'Authorization: Bearer %s\n' "$token" >"$WORK/key"
  mv "$WORK/key" "$KEY"
  FIRST_CALL=yes
}
KEY="" FIRST_CALL=no

say_what_it_costs() {
  say "" "Costs, about:" \
    "  idle   nothing, with --min 0 (each version of a secret after the sixth: \$0.06 a month)" \
    "  busy   \$0.09 an hour for each instance that answers, 200 requests at once; the first 50" \
    "         hours a month are free, and 2 million requests, then \$0.40 a million" \
    "Model and Redis come on top: docs/deploy.md."
}

say_how_to_call() {
  local key=(-H "@$KEY") call body='{"content": "Hello"}'
  [[ $AUTH == *keys* ]] || key=(-H "Authorization: Bearer <an ID token>")
  [ "$OPEN" = no ] || key=()
  call=(curl -sS ${key[@]+"${key[@]}"} -d "$body" "$URL/demo/chat")
  say "" "Chatkeep is at $URL" "$(show "${call[@]}")"
  [ "$PUBLIC" != no ] || say "(not public: add -H \"X-Serverless-Authorization:" \
    " Bearer \$(gcloud auth print-identity-token)\")"
  [ "$FIRST_CALL" = yes ] || return 0
  step "Ask it for a first answer"
  "${call[@]}" --max-time 120 -H "@$WORK/caller" || true
}

say_how_to_promote() {
  say "" "The canary is at $CANARY_URL and gets no traffic." "A tenth of it:"
  show gcloud run services update-traffic "$NAME" --region="$REGION" --to-tags=canary=10 \
    --project="$PROJECT"
  say "All of it:"
  show gcloud run services update-traffic "$NAME" --region="$REGION" --to-latest \
    --project="$PROJECT"
}

# The service must be there for what follows; in a dry run it is taken for granted.
find_it() {
  find_project
  find_python
  [ "$DRY_RUN" = no ] || REGION=${REGION:-REGION}
  look_at_the_service
  [ "$FOUND$DRY_RUN" != nono ] || fail "There is no $NAME in project $PROJECT."
}

rollback() {
  find_it
  read_revisions
  local before=REVISION
  if [ "$DRY_RUN" = no ]; then
    before=$(state previous)
    can_still_read "$before"
  fi
  step "Send all traffic back to $before"
  run gcloud run services update-traffic "$NAME" --region="$REGION" --to-revisions="$before=100" \
    "${FLAGS[@]}"
  say "The next deploy sends it to the newest revision again. To do so now:"
  show gcloud run services update-traffic "$NAME" --region="$REGION" --to-latest \
    --project="$PROJECT"
}

# Without its secrets a revision cannot start, and traffic that is sent to it is lost.
can_still_read() {
  local one
  for one in $(state secrets_of_previous); do
    ask_if_there version gcloud secrets versions describe "${one##*:}" --secret="${one%:*}" \
      --format='value(state)' "${FLAGS[@]}"
    grep -qi enabled "$WORK/version" ||
      fail "$1 reads $one, which is not there any more: it could not start."
  done
}

status() {
  find_it
  [ "$DRY_RUN" = yes ] || state status
}

# Not `gcloud run services logs read`, which crashes on lines of JSON.
logs() {
  find_it
  local filter="resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"$NAME\""
  local command=(gcloud logging read "$filter AND resource.labels.location=\"$REGION\""
    --freshness=1d --limit=100
    --format='value(timestamp,severity,textPayload,jsonPayload)' "${FLAGS[@]}")
  [ "$DRY_RUN" = no ] || { show "${command[@]}"; return; }
  "${command[@]}"
}

# First what can only be found while the service says its region, last what is found by its name.
delete() {
  find_project
  find_python
  look_at_the_service
  REGION=${REGION:-$CONFIGURED_REGION}
  say "This deletes, in project $PROJECT: the function $NAME and its URL, its images and uploaded" \
    "sources, its secrets, and the account $ACCOUNT. Chats stay: they are in Redis."
  if [ "$YES$DRY_RUN" = nono ]; then
    [ -t 0 ] || fail "Say --yes if you mean it."
    local answer
    read -r -p "Type its name to delete it: " answer
    [ "$answer" = "$NAME" ] || fail "Nothing was deleted."
  fi
  WRITING=yes
  if [ -n "$REGION" ]; then
    gone "Delete its images" gcloud artifacts packages delete "$NAME" --location="$REGION" \
      --repository=cloud-run-source-deploy
    gone "Delete its uploaded sources" gcloud storage rm --recursive \
      "gs://run-sources-$PROJECT-$REGION/services/$NAME/**"
  fi
  local service=(gcloud run services delete "$NAME" --region="$REGION")
  [ "$CLASSIC" = no ] || service=(gcloud functions delete "$NAME" --gen2 --region="$REGION")
  [ "$FOUND$DRY_RUN" = nono ] || gone "Delete the function" "${service[@]}"
  ask_if_there secrets.txt gcloud secrets list --filter="labels.chatkeep=$NAME" \
    --format='value(name.basename())' "${FLAGS[@]}"
  local secret
  while read -r secret; do
    gone "Delete the secret $secret" gcloud secrets delete "$secret"
  done <"$WORK/secrets.txt"
  gone "Delete its account" gcloud iam service-accounts delete "$ACCOUNT"
  rm -f ".deploy/$NAME.key"
  say "" "Gone. Left in the project, for other functions may need them: the APIs, the repository" \
    "cloud-run-source-deploy, and Cloud Build's role roles/run.builder."
}

# Deletes what may be gone already.
gone() {
  step "$1"
  shift
  if [ "$DRY_RUN" = yes ]; then
    show "$@" "${FLAGS[@]}"
  elif ! "$@" "${FLAGS[@]}" >"$WORK/out" 2>"$WORK/err" </dev/null; then
    grep -qiE 'not.?found|no URLs matched|matched no objects|does not exist|could not be found' \
      "$WORK/err" || stop_with_error
  fi
}
