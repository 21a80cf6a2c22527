import { sdk } from './sdk'

export const setDependencies = sdk.setupDependencies(async () => ({
  // Version-3 relay, pay-to-anchor and packages came with 28.
  bitcoind: { kind: 'running', versionRange: '>=28.0.0', healthChecks: [] },
}))
