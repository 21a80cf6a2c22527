# shellcheck shell=bash
# Sourced by Umbrel before it reads docker-compose.yml; the first two are also for other apps that use the tower.
export APP_STATE_CHANNEL_WATCHTOWER_API_PORT="9815"
export APP_STATE_CHANNEL_WATCHTOWER_HOST="state-channel-watchtower_tower_1"

# Umbrel says testnet3 where this program, as bitcoind's documentation, says testnet.
export APP_STATE_CHANNEL_WATCHTOWER_NETWORK="${APP_BITCOIN_NETWORK/testnet3/testnet}"

onion_file="${EXPORTS_TOR_DATA_DIR}/app-${EXPORTS_APP_ID}-api/hostname"
APP_STATE_CHANNEL_WATCHTOWER_ONION="$(cat "${onion_file}" 2>/dev/null || echo "notyetset.onion")"
export APP_STATE_CHANNEL_WATCHTOWER_ONION
