"""Read models: folds of the event log. Disposable; rebuildable from position 0."""
