import { sdk } from './sdk'

// The log and the keystore, never without each other. What the next start makes again stays out.
export const { createBackup, restoreInit } = sdk.setupBackups(async () =>
  sdk.Backups.ofVolumes('main').setOptions({
    exclude: ['state-channel-watchtower/views.db*', 'state-channel-watchtower/events.db.lock'],
  }),
)
