export { createBackup } from './backups'
export { main } from './main'
export { init, uninit } from './init'
export { actions } from './actions'

import { buildManifest } from '@start9labs/start-sdk'
import { versionGraph } from './install/versionGraph'
import { manifest as described } from './manifest'

export const manifest = buildManifest(versionGraph, described)
