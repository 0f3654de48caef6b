"""The closed sets behind metric labels: whatever a service may invent becomes `other`, never a new series."""

import builtins
import re
from typing import Final

OTHER: Final = "other"

# Codes of the service in the spelling of the how-to page or the specification (azure-batch.md 7.1, 7.2,
# 2026-11-20), codes of OpenAI, codes of ours, and words with which stages say why.
_WORDS: Final = """
    ok none unknown 400 401 403 404 408 409 413 422 429 500 502 503 504
    stalled quota_shared quota_hidden quota_unproven waiting running deadline moves no_room online unclear
    invalid_json_line too_many_tasks url_mismatch model_not_found duplicate_custom_id empty_batch empty_file
    model_mismatch invalid_request token_limit_exceeded input_modified input_no_permissions
    conflict invalidPayload forbidden notFound unexpectedEntityState itemDoesAlreadyExist serviceUnavailable
    internalFailure quotaExceeded jsonlValidationFailed fileImportFailed tooManyRequests unauthorized contentFilter
    OperationNotSupported insufficient_quota invalid_api_key rate_limit_exceeded batch_expired batch_cancelled
    request_timeout
    http_400 http_401 http_403 http_404 http_408 http_409 http_413 http_422 http_429 http_500 http_502 http_503
    http_504 redirected unreadable_answer key_unreadable token_unavailable deployment_sku no_errors_given
    file_not_processed file_error content_too_large
    truncated too_slow list_stuck aborted connect connection_lost timeout connection configuration fence_lost spool_full
    deadline_exceeded cancelled_by_producer exceeds_quota no_result unreadable_body unreadable_result
    line left_over refused split empty closed late fenced file_not_found file_pending short_upload uploads_exhausted
    never_created batch_vanished file_gone unknown_status file_without_record snapshot redis not_in_settings strange_line
    stuck_validating stuck_in_progress stuck_finalizing stuck_cancelling stuck_unknown nobody_waits truncated duplicate
    asked drained dropped_by_operator outside_zone
    cut_short poisoned opened frozen earlier_epoch adopted lagged region_away lost_record parent_splitting
"""

_EXCEPTIONS: Final = frozenset(
    name for name in dir(builtins) if isinstance(getattr(builtins, name), type) and name.endswith("Error")
) | {
    # redis-py's and msgspec's, by name: this module needs neither library
    *(
        "ResponseError",
        "OutOfMemoryError",
        "ReadOnlyError",
        "BusyLoadingError",
        "ClusterDownError",
        "NoScriptError",
    ),
    *("AuthenticationError", "MaxConnectionsError", "RedisError", "DecodeError", "ValidationError"),
}


def _spelling(code: str) -> str:
    """The same word for every spelling of a code: `notFound`, `not_found`, `NotFound`."""
    return re.sub(r"[^a-z0-9]", "", code.lower())


CODES: Final = {_spelling(word): word for word in _WORDS.split()}
"""Spelling -> the label it gets."""

KINDS: Final = frozenset({"gather", "balance", "ladder", "expire", "sweep", "look", "recover", "watchdog"})
"""Steps beside the states of a batch."""

OUTCOMES: Final = frozenset(
    {"delivered", "quarantined", "requeued", "completed", "failed", "expired", "cancelled"}
)
"""How a batch may end, besides the codes."""


def code_label(code: str) -> str:
    """A code or the name of an exception as a label value."""
    return code if code in _EXCEPTIONS else CODES.get(_spelling(code), OTHER)


def outcome_label(outcome: str) -> str:
    """The outcome of a batch as a label value."""
    return outcome if outcome in OUTCOMES else code_label(outcome)
