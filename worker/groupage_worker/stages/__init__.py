"""One file a stage, one shape: `await step(...)` takes a batch (or a lane) and says where it goes next.

    gatherer   lanes -> batches (claiming)
    answerer   answering: one by one through an online deployment
    ladder     deadlines that are near -> batches by name
    balancer   batches that go from one deployment to another
    submitter  sealed -> uploading -> uploaded -> creating -> submitted
    resolver   resolving: a create that was unclear
    tracker    submitted -> the remote batch is terminal
    deliverer  delivering: output and error files -> replies
    splitter   splitting: one bad line, or halves
    requeuer   requeueing: everything back to its lane
    janitor    cleaning: remote files go after their grace time
    expirer    deadlines: requests that nobody answered in time

Stages know the store, the service's client and the clock; they do not know arq, nor each other.
"""
