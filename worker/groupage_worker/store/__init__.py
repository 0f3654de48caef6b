"""The only package of the worker that speaks to Redis: one typed method per transition.

`BatchStore` works on the control server (records, dues, quota); `RequestStore` (payloads, queues, manifests,
replies), `DeadlineWheel` and `Admission` on the data server; `Epochs` on both. By default both are the same server.
"""

from groupage_worker.store.admission import Admission
from groupage_worker.store.batches import BatchStore
from groupage_worker.store.epochs import Epochs
from groupage_worker.store.named import NamedRequests
from groupage_worker.store.requests import RequestStore
from groupage_worker.store.sealed import request_store
from groupage_worker.store.wheel import DeadlineWheel

__all__ = [
    "Admission",
    "BatchStore",
    "DeadlineWheel",
    "Epochs",
    "NamedRequests",
    "RequestStore",
    "request_store",
]
