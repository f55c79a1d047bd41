"""Task dispatch: which executor runs which attempt, and how results reach the store.

`Dispatcher` is the facade. Each part owns its own fields: `CreditLedger` the credits, `InFlightTasks` the attempts
that run here, `Sweeper` the polling for waiting tasks, `ResultReporter` the results, and `Reconciler` the comparison
with the database.
"""
