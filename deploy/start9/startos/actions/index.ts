import { sdk } from '../sdk'
import { connectionCard } from './connectionCard'

export const actions = sdk.Actions.of().addAction(connectionCard)
