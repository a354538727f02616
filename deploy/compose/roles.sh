#!/bin/sh
# Gives the processes' roles their passwords; what each may do says `penstock migrate --roles`. The image of Postgres runs
# it when it makes the database. In one that was there before:
#   docker compose -f deploy/compose.yaml exec postgres /docker-entrypoint-initdb.d/roles.sh
set -eu
psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --file /run/secrets/database-roles
