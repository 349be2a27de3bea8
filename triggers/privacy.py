"""On each new privacy job: run it. What one run does not finish, the sweep goes on with."""

from __future__ import annotations

from typing import Any

from firebase_functions.firestore_fn import on_document_created

from functions.privacy import service as privacy
from shared import log
from shared.deployment import arguments_of
from triggers.edge import edge


@edge("on_privacy_job_created")
def _on_privacy_job_created(fired: Any) -> None:
    job_id = fired.params["job_id"]
    log.info("privacy job", job_id=job_id, done=privacy.run(job_id))


on_privacy_job_created: Any = on_document_created(
    document="privacy_jobs/{job_id}", **arguments_of("on_privacy_job_created")
)(_on_privacy_job_created)
# The SDK has no `retry` for Firestore triggers (firebase/firebase-functions-python#165). A job that was taken is nobody
# else's for a while, so an event that comes again does no harm; one that was lost would wait for the sweep.
on_privacy_job_created.__firebase_endpoint__.eventTrigger["retry"] = True
