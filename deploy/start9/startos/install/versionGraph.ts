import { VersionGraph, VersionInfo } from '@start9labs/start-sdk'

// The tower brings its own files to a new version at its start, so there is nothing to do here.
export const versionGraph = VersionGraph.of({
  current: VersionInfo.of({
    version: '0.1.0:0',
    releaseNotes: 'First version.',
    migrations: { up: async () => {}, down: async () => {} },
  }),
  other: [],
})
