"""What the scheduler learns and decides, as functions of values: no I/O, no clock, no randomness of its own.

`learning` keeps what is known of a deployment, `completion` turns it into expectations, `estimates` learns how many
tokens the service counts, `circuit` says when a deployment gets work at all, `moves` which batches go elsewhere,
`deadlines` what becomes of a request that may be late. `groupage_worker.routing` decides who pulls what.
"""
