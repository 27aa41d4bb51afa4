#!/usr/bin/env bash
# Deploy to Google Cloud Run functions with the settings of .env; prints the URL and a first call.
#
#   cp .env.example .env        # fill in the first lines
#   ./deploy.sh my-chat         # name of the function; needs gcloud, logged in, with a project set
#
# Everybody reaches it, and only users with a key (AUTH=keys, the default there) or an ID token get
# in. With AUTH=open nobody is checked, so then only callers whom IAM lets in reach it, until you say
# PUBLIC=yes, and your model key pays for all of them. PUBLIC=no closes it in any case.
# REGION (us-central1) and RUNTIME (python313) may be set. Secrets go to Secret Manager, never onto
# a command line.
set -euo pipefail
cd "$(dirname "$0")"

NAME=${1:?usage: ./deploy.sh FUNCTION_NAME}
REGION=${REGION:-us-central1}
RUNTIME=${RUNTIME:-python313}

fail() { echo "$1" >&2; exit 1; }
[ -f .env ] || fail "There is no .env here: cp .env.example .env, and fill it in."
command -v gcloud >/dev/null || fail "gcloud is missing: https://cloud.google.com/sdk/docs/install"
PROJECT=$(gcloud config get-value project 2>/dev/null)
[ -n "$PROJECT" ] || fail "No project is set: gcloud config set project PROJECT"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make -s .venv/installed
# Checks the settings as the function will, and writes plain.yaml and secrets/NAME.
.venv/bin/python -m dev.deploy_settings "$work" "$PROJECT"
PUBLIC=${PUBLIC:-$([ -e "$work/open" ] && echo no || echo yes)}

project=(--project="$PROJECT" --quiet)
gcloud services enable artifactregistry.googleapis.com cloudbuild.googleapis.com \
  run.googleapis.com secretmanager.googleapis.com "${project[@]}"
account=chatkeep-run@$PROJECT.iam.gserviceaccount.com
gcloud iam service-accounts describe "$account" "${project[@]}" >/dev/null 2>&1 ||
  gcloud iam service-accounts create chatkeep-run "${project[@]}"

secrets=""
for file in "$work"/secrets/*; do
  [ -e "$file" ] || continue
  variable=$(basename "$file")
  secret=$NAME-$(tr 'A-Z_' 'a-z-' <<<"$variable")
  gcloud secrets describe "$secret" "${project[@]}" >/dev/null 2>&1 ||
    gcloud secrets create "$secret" --replication-policy=automatic "${project[@]}"
  version=$(gcloud secrets versions add "$secret" --data-file="$file" --format='value(name)' "${project[@]}")
  gcloud secrets add-iam-policy-binding "$secret" --member="serviceAccount:$account" \
    --role=roles/secretmanager.secretAccessor "${project[@]}" >/dev/null
  secrets+="${secrets:+,}$variable=$secret:${version##*/}"
done

access=--no-allow-unauthenticated
[ "$PUBLIC" != yes ] || access=--allow-unauthenticated
gcloud run deploy "$NAME" --region="$REGION" --source=. --function=main --base-image="$RUNTIME" \
  --service-account="$account" "$access" --cpu=1 --memory=512Mi --concurrency=200 --timeout=900 \
  --min-instances=0 --max-instances=20 --cpu-boost \
  --env-vars-file="$work/plain.yaml" ${secrets:+--set-secrets="$secrets"} "${project[@]}"

url=$(gcloud run services describe "$NAME" --region="$REGION" --format='value(status.url)' "${project[@]}")
echo "Chatkeep is at $url"
token='-H "Authorization: Bearer $(gcloud auth print-identity-token)" '
[ "$PUBLIC" != yes ] || token=""
if [ ! -e "$work/open" ]; then
  echo "A user's key: curl -X POST -H 'Authorization: <your ADMIN_KEY>' $url/admin/users/add"
  token='-H "Authorization: Bearer <the key>" '
fi
echo "Try: curl -N ${token}$url/demo/chat -d '{\"content\": \"Hello\", \"stream\": true}'"
