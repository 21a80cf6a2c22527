import { setupManifest } from '@start9labs/start-sdk'

export const manifest = setupManifest({
  id: 'state-channel-watchtower',
  title: 'State Channel Watchtower',
  license: 'MIT',
  packageRepo: 'https://github.com/state-channel-watchtower/state-channel-watchtower',
  upstreamRepo: 'https://github.com/state-channel-watchtower/state-channel-watchtower',
  marketingUrl: 'https://github.com/state-channel-watchtower/state-channel-watchtower',
  donationUrl: null,
  description: {
    short: 'Answers every cheat in your Bitcoin state channels',
    long:
      'Follows your own Bitcoin node, recognizes a revoked state of one of your channels in the mempool or in a block, ' +
      'and answers with the penalty transaction before the deadline.',
  },
  volumes: ['main'],
  images: {
    tower: {
      // Not published yet; build it with deploy/container/Dockerfile.
      source: { dockerTag: 'ghcr.io/state-channel-watchtower/state-channel-watchtower:0.1.0' },
      arch: ['x86_64', 'aarch64'],
    },
  },
  alerts: {
    install: null,
    update: null,
    uninstall: 'Channels that this tower watches are not watched any more. Its keys are gone unless you have a backup.',
    restore:
      'A restored tower is an older one: it says behind_receipts until your parties have uploaded what it lacks. ' +
      'They do that by themselves at their next connection.',
    start: null,
    stop: 'While the tower is stopped nobody watches your channels.',
  },
  dependencies: {
    bitcoind: {
      description: 'The tower asks your node for blocks and sends penalties through it.',
      optional: false,
      metadata: {
        title: 'Bitcoin',
        icon: 'https://raw.githubusercontent.com/Start9Labs/bitcoin-core-startos/master/icon.svg',
      },
    },
  },
})
