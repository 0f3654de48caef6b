"""The only package of the worker that speaks to Redis: one typed method per transition.

`BatchStore` works on the control server (records, dues, quota), `RequestStore` on the data server (payloads,
queues, manifests, replies). By default both are the same server.
"""

from groupage_worker.store.batches import BatchStore
from groupage_worker.store.epochs import Epochs
from groupage_worker.store.requests import RequestStore

__all__ = ["BatchStore", "Epochs", "RequestStore"]
