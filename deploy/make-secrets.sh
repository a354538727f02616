#!/bin/sh
# Makes the secrets that deploy/compose.yaml mounts, each a file in deploy/secrets. What is there already is kept.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets config

random() { # BYTES -> base64url
    head -c "$1" /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'
}

keep() { # NAME VALUE
    if [ -s "secrets/$1" ]; then
        echo "kept  deploy/secrets/$1"
    else
        printf '%s\n' "$2" >"secrets/$1"
        echo "made  deploy/secrets/$1"
    fi
}

# Only letters and digits where it goes into a URL.
keep postgres-password "$(random 32 | tr -d '_=-')"
keep database-url "postgresql://penstock:$(cat secrets/postgres-password)@postgres:5432/penstock"
# Each process knows the database as a role of its own; compose/roles.sh gives the roles these passwords.
roles=
for role in ingress worker relay console; do
    keep "database-url-$role" "postgresql://penstock_$role:$(random 32 | tr -d '_=-')@postgres:5432/penstock"
    password=$(sed 's/.*:\(.*\)@.*/\1/' "secrets/database-url-$role")
    roles="${roles}SELECT 'CREATE ROLE penstock_$role LOGIN' WHERE NOT EXISTS
  (SELECT FROM pg_roles WHERE rolname = 'penstock_$role') \\gexec
ALTER ROLE penstock_$role PASSWORD '$password';
"
done
keep database-roles "$roles"
if [ ! -s secrets/redis-auth ]; then
    password=$(random 32 | tr -d '_=-')
    keep redis-auth "requirepass $password"
    keep redis-url "redis://:$password@redis:6379/0"
fi
keep encryption-keys "$(random 32)"
keep console-password "$(random 24)"
keep flower-password "$(random 24)"

# Containers read them through a mount, as users of their own; on this machine the folder keeps others out.
chmod 644 secrets/*
if [ ! -e config/penstock.toml ]; then
    echo '# [[magicline.accounts]] ...: docs/providers/README.md' >config/penstock.toml
    echo "made  deploy/config/penstock.toml: enter your accounts there"
fi
if ! chown -R 10001:10001 config 2>/dev/null; then
    echo "Now let the containers' user read the accounts: sudo chown -R 10001:10001 deploy/config"
fi
