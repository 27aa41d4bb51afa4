#!/usr/bin/env bash
# Deploys Chatkeep to Google Cloud Run functions: ./deploy.sh --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deploy/basics.sh
. deploy/basics.sh
# shellcheck source=deploy/check.sh
. deploy/check.sh
# shellcheck source=deploy/steps.sh
. deploy/steps.sh
# shellcheck source=deploy/operate.sh
. deploy/operate.sh
# shellcheck source=deploy/alerts.sh
. deploy/alerts.sh

usage() {
  cat <<'HELP'
Deploys Chatkeep to Google Cloud. Needs gcloud (logged in) and curl; no Python but gcloud's own.

  cp .env.example .env       fill in the first lines
  ./deploy.sh my-chat        ends with a URL, a first user's key, and a first answer

A second run deploys again. What .env names is set; what it does not name stays as it is in the
cloud; an empty line (NAME=) takes a setting away. So it is with the options below.

Instead of a deploy
  --dry-run           print every command, send nothing
  --canary            deploy beside what runs, without traffic, at a URL of its own
  --rollback          send all traffic to the revision before; the next deploy sends it forward
  --status            what runs: URL, revisions, traffic, settings (no secrets)
  --logs              the last 100 lines of the log of the last day
  --alerts            metrics of its log, alert policies and a dashboard (CHANNEL=... who is told)
  --delete            delete all that was made here; asks first (--yes: does not)

Options
  --region REGION     else: where it runs already, gcloud's own setting, or next to Redis
  --project PROJECT   else: gcloud's own setting
  --runtime RUNTIME   python311 to python314 (the default)
  --min N, --max N    instances kept ready (0), and at most (20)
  --public            anybody reaches it (the default, where users need a key or an ID token)
  --private           only callers whom IAM lets in reach it (the default with AUTH=open)
  --classic           by `gcloud functions deploy`; no canary
  --no-ping           do not ask Redis from here whether it is there

docs/deploy.md says what is made, what it costs, and what to do when something fails.
HELP
}

NAME="" ACTION=deploy REGION=${REGION:-} PROJECT=${PROJECT:-} RUNTIME=${RUNTIME:-}
MIN="" MAX="" PUBLIC=${PUBLIC:-} CLASSIC=no CANARY=no DRY_RUN=no PING=yes YES=no

read_options() {
  while [ $# -gt 0 ]; do
    local option=$1 value=""
    shift
    case $option in
      --region=* | --project=* | --runtime=* | --min=* | --max=*)
        value=${option#*=} option=${option%%=*} ;;
      --region | --project | --runtime | --min | --max)
        [ $# -gt 0 ] || fail "$option needs a value."
        value=$1
        shift ;;
    esac
    case $option in
      -h | --help) usage && exit 0 ;;
      --region) REGION=$value ;;
      --project) PROJECT=$value ;;
      --runtime) RUNTIME=$value ;;
      --min) MIN=$value ;;
      --max) MAX=$value ;;
      --public) PUBLIC=yes ;;
      --private) PUBLIC=no ;;
      --classic) CLASSIC=yes ;;
      --canary) CANARY=yes ;;
      --dry-run) DRY_RUN=yes ;;
      --no-ping) PING=no ;;
      --yes) YES=yes ;;
      --rollback | --status | --logs | --alerts | --delete) ACTION=${option#--} ;;
      -*) fail "There is no option $option. ./deploy.sh --help lists them." ;;
      *)
        [ -z "$NAME" ] || fail "One name only: is it $NAME or $option?"
        NAME=$option ;;
    esac
  done
}

deploy() {
  check_settings
  find_project
  ping_redis
  look_at_the_service
  choose_region
  compare_secrets
  prepare_flags

  enable_apis
  make_account
  let_it_build
  store_secrets
  stage_sources
  deploy_revision
  if [ "$CANARY" = no ]; then
    send_traffic_to_the_newest
    wait_until_healthy "$URL"
    destroy_old_secrets
    make_first_user
    say_what_it_costs
    say_how_to_call
  else
    wait_until_healthy "$CANARY_URL"
    say_how_to_promote
  fi
}

main() {
  [ $# -gt 0 ] || { usage >&2; exit 2; }
  read_options "$@"
  check_options
  prepare_work
  "$ACTION"
  STEP=""
}

main "$@"
