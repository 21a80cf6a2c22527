import { sdk } from './sdk'
import { adminPort, apiPort, dataDirectory, environment, nodeMountpoint } from './utils'

type Readiness = { watching: boolean; phase: string; reasons: { reason: string; text?: string }[] }

/** What /readyz says, in one sentence for a person. */
async function readiness(): Promise<Readiness> {
  const reply = await fetch(`http://127.0.0.1:${apiPort}/readyz`)
  return (await reply.json()) as Readiness
}

export const main = sdk.setupMain(async ({ effects }) => {
  const depends = await sdk.checkDependencies(effects)
  depends.throwIfNotSatisfied()

  const tower = await sdk.SubContainer.of(
    effects,
    { imageId: 'tower' },
    sdk.Mounts.of()
      .mountVolume({ volumeId: 'main', subpath: null, mountpoint: dataDirectory, readonly: false })
      .mountDependency({
        dependencyId: 'bitcoind',
        volumeId: 'main',
        subpath: null,
        mountpoint: nodeMountpoint,
        readonly: true,
      }),
    'tower-sub',
  )

  return sdk.Daemons.of(effects)
    .addDaemon('tower', {
      subcontainer: tower,
      exec: { command: ['first-start', 'watchtower', 'run'], env: environment },
      ready: {
        display: 'Status page',
        fn: () =>
          sdk.healthCheck.checkPortListening(effects, adminPort, {
            successMessage: 'The tower answers',
            errorMessage: 'The tower does not answer',
          }),
      },
      requires: [],
    })
    .addHealthCheck('watching', {
      ready: {
        display: 'Watching your channels',
        // The words of /readyz: they say what is wrong and what to do. A tower whose node is away is alive, and must
        // not be restarted; but nobody is protected, so this check fails.
        fn: async () => {
          try {
            const now = await readiness()
            const why = now.reasons.map((each) => each.text ?? each.reason).join(' ')
            if (now.watching) return { result: 'success', message: why || 'Protected' }
            if (now.phase === 'starting' || now.phase === 'catching_up') return { result: 'loading', message: now.phase }
            return { result: 'failure', message: why || now.phase }
          } catch {
            return { result: 'failure', message: 'The tower does not answer' }
          }
        },
      },
      requires: ['tower'],
    })
})
