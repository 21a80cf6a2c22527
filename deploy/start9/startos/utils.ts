// Ports of the tower, and where the node's volume is seen.
export const apiPort = 9815
export const adminPort = 9816
export const dataDirectory = '/data'
export const nodeMountpoint = '/mnt/bitcoind'

export const environment: Record<string, string> = {
  // Nobody sits at a terminal here, so the first start makes the tower.
  WATCHTOWER_FIRST_START: 'make',
  STATE_CHANNEL_NETWORK: 'mainnet',
  STATE_CHANNEL_NODE__RPC_URL: 'http://bitcoind.startos:8332',
  // bitcoind writes a new cookie at each start. The tower reads the file again when it is refused, so nothing has to be
  // restarted.
  STATE_CHANNEL_NODE__RPC_COOKIE_PATH: `${nodeMountpoint}/.cookie`,
  STATE_CHANNEL_NODE__ZMQ_SEQUENCE: 'tcp://bitcoind.startos:28335',
  STATE_CHANNEL_NODE__ZMQ_RAWTX: 'tcp://bitcoind.startos:28333',
  STATE_CHANNEL_ADMIN__LISTEN: `0.0.0.0:${adminPort}`,
  // StartOS asks who its users are, in front of the page.
  STATE_CHANNEL_ADMIN__PAGE: 'open',
  STATE_CHANNEL_ADMIN__PAGE_NAMES: '*',
}
