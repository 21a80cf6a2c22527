import { sdk } from '../sdk'
import { dataDirectory, environment } from '../utils'

// What a party needs to use this tower. The token is in /data/state-channel-watchtower/api.token and is not shown here.
export const connectionCard = sdk.Action.withoutInput(
  'connection-card',
  async () => ({
    name: 'Connection card',
    description: 'Identity of this tower, with its limits, for the parties that shall use it',
    warning: null,
    allowedStatuses: 'only-running',
    group: null,
    visibility: 'enabled',
  }),
  async ({ effects }) => {
    const told = await sdk.SubContainer.withTemp(
      effects,
      { imageId: 'tower' },
      sdk.Mounts.of().mountVolume({ volumeId: 'main', subpath: null, mountpoint: dataDirectory, readonly: true }),
      'connection-card',
      (container) => container.execFail(['watchtower', 'info', '--json'], { env: environment }),
    )
    return {
      version: '1',
      title: 'Connection card',
      message: null,
      result: { type: 'single', value: String(told.stdout), copyable: true, qr: true, masked: false },
    }
  },
)
