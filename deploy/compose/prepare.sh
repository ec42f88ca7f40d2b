#!/usr/bin/env bash
# What a study needs before it starts: certificates for the coordinator and every site, each site's
# approval of the plan, and the study's folder. One machine does here what several people do in a pilot, in the same steps: a key is
# made in the container that uses it and stays in its volume; requests and certificates are carried.
#
# $WARDROUND_RUN holds study.toml and data/SITE for each site, and gets ca/, exchange/ and register/.
# $DOCKER_COMPOSE names the Compose to use; without it, 2 is taken before 1.29.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
run=$(realpath "${WARDROUND_RUN:-../../out/compose}")
PATH=$(realpath ../../.venv/bin):$PATH
found=$(docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
compose=${DOCKER_COMPOSE:-$found}

inside() { # SERVICE COMMAND: run it in a container that has the service's volumes
  $compose run --rm --no-deps -T --volume "$run/exchange:/exchange:ro" --entrypoint sh "$1" -c "$2"
}

enrol() { # SERVICE NAME ROLE [OPTION ...]
  local service=$1 name=$2 role=$3 exchange=$run/exchange token
  shift 3
  token=$(wardround ca invite "$run/ca" "$name" --role "$role" "$@" | sed -n 's/^token //p')
  inside "$service" "wardround site enroll /credentials --name $name --role $role >/dev/null
                     cat /credentials/own.csr" >"$exchange/$name.csr"
  wardround ca approve "$run/ca" "$exchange/$name.csr" --token "$token" \
    --out "$exchange/$name.crt" >/dev/null
  inside "$service" "wardround site enroll /credentials \
                     --certificate /exchange/$name.crt --ca /exchange/ca.crt"
}

mkdir -p "$run/exchange" "$run/register"
wardround ca init "$run/ca" --name wards >/dev/null
cp "$run/ca/ca.crt" "$run/exchange/"
enrol coordinator hub coordinator --host coordinator --host localhost
for folder in "$run"/data/*/; do
  site=$(basename "$folder")
  enrol "$site" "$site" site
  # The kernel of a container sees a route on its closed network, to a bridge that has no address. So
  # the site dials two that answer whoever gets out, and does not start if one of them does.
  inside "$site" "echo 'probe_addresses = [\"1.1.1.1:443\", \"8.8.8.8:443\"]' >/state/site.toml"
  inside "$site" "wardround plan approve /study.toml --site $site --workspace /state --by operator"
done
$compose run --rm -T study
# All that the coordinator needs of the authority: who was revoked.
install -m 644 "$run/ca/register.jsonl" "$run/register/"
