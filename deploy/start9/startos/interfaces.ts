import { sdk } from './sdk'
import { adminPort, apiPort } from './utils'

export const setInterfaces = sdk.setupInterfaces(async ({ effects }) => {
  const page = await sdk.MultiHost.of(effects, 'page').bindPort(adminPort, { protocol: 'http' })
  const api = await sdk.MultiHost.of(effects, 'api').bindPort(apiPort, { protocol: 'http' })
  return [
    await page.export([
      sdk.createInterface(effects, {
        id: 'page',
        name: 'Status page',
        description: 'Am I protected? Open breaches, channels, and how parties connect',
        type: 'ui',
        masked: false,
        schemeOverride: null,
        username: null,
        path: '',
        query: {},
      }),
    ]),
    await api.export([
      sdk.createInterface(effects, {
        id: 'api',
        name: 'Tower API',
        description: 'For the parties whose channels this tower watches',
        type: 'api',
        masked: false,
        schemeOverride: null,
        username: null,
        path: '',
        query: {},
      }),
    ]),
  ]
})
