"""POST /batches: what it says, and what the service refuses at once (sections 4.1 and 7.1 of `azure-batch.md`)."""

import msgspec

from groupage_emulator import replies, validation
from groupage_emulator.config import DeploymentConfig, Limits, RegionConfig
from groupage_emulator.files import Files, FileStatus, StoredFile
from groupage_emulator.profiles import Profile

ENDPOINTS = ("/chat/completions", "/responses")
METADATA_PAIRS_MAX = 16
METADATA_KEY_CHARS_MAX = 64
METADATA_VALUE_CHARS_MAX = 512


class Expiry(msgspec.Struct):
    """`expires_after` of a file or of outputs (section 2.1)."""

    seconds: int
    anchor: str = "created_at"


class Wanted(msgspec.Struct):
    """The body of POST /batches; unknown members are ignored (section 4.1)."""

    endpoint: str
    completion_window: str
    input_file_id: str | None = None
    metadata: dict[str, str] | None = None
    output_expires_after: Expiry | None = None


def check_expiry(limits: Limits, expiry: Expiry) -> None:
    """Refuses an expiry outside the range (section 2.1)."""
    if expiry.anchor != "created_at" or not limits.expiry_s_min <= expiry.seconds <= limits.expiry_s_max:
        raise replies.error_envelope(
            400,
            "invalidPayload",
            "expires_after must have the anchor 'created_at' and seconds between"
            f" {limits.expiry_s_min} and {limits.expiry_s_max}.",
        )


class Checks:
    """The checks of a create, in the order in which they are made.

    Args:
        config: The region's configuration.
        files: The region's files.
    """

    def __init__(self, config: RegionConfig, files: Files) -> None:
        self._config = config
        self._files = files

    def fields(self, wanted: Wanted, profile: Profile) -> None:
        """Refuses an endpoint, an expiry or metadata that the service would not take."""
        bare = validation.bare_url(wanted.endpoint)
        embeddings = bare == "/embeddings" and self._config.quirks.embeddings
        if bare not in ENDPOINTS and not embeddings:
            raise replies.error_envelope(
                400, "invalidPayload", f"The endpoint '{wanted.endpoint}' is not supported."
            )
        if wanted.input_file_id is None:
            raise replies.error_envelope(400, "invalidPayload", "The input_file_id field is required.")
        expiry = wanted.output_expires_after
        if expiry is not None and profile.honours_expiry:
            check_expiry(self._config.limits, expiry)
        pairs = wanted.metadata or {}
        if len(pairs) > METADATA_PAIRS_MAX or any(
            len(name) > METADATA_KEY_CHARS_MAX or len(value) > METADATA_VALUE_CHARS_MAX
            for name, value in pairs.items()
        ):
            raise replies.error_envelope(
                400,
                "invalidPayload",
                "Metadata takes 16 pairs with keys up to 64 and values up to 512 characters.",
            )

    def source(self, file_id: str) -> StoredFile:
        """The input file, ready for a batch."""
        try:
            source = self._files.get(file_id)
        except replies.Refusal as refusal:
            if self._config.quirks.missing_input == 404:
                raise
            raise replies.error_envelope(
                400, "invalidPayload", f"Cannot find file with id {file_id}."
            ) from refusal
        if source.purpose != "batch":
            raise replies.error_envelope(
                400, "invalidPayload", f"The file '{file_id}' has not the purpose 'batch'."
            )
        if source.status is not FileStatus.PROCESSED:
            message = (
                f"The input file '{file_id}' is in '{source.status}' state. Only files with status 'Processed' are"
                " accepted for batch inferencing. Please check the file status and try again"
            )
            if self._config.quirks.pending_envelope == "errors":
                raise replies.errors_envelope("invalid_request", message)
            raise replies.error_envelope(400, "invalidPayload", message)
        return source

    def deployment(self, source: StoredFile, profile: Profile) -> DeploymentConfig | None:
        """The deployment that the first line names; None leaves the judgement to validation."""
        model = validation.first_model(source.path)
        if model is None:
            return None
        deployments = {one.name: one for one in self._config.deployments}
        found = deployments.get(model)
        if found is None and profile.is_azure:
            raise replies.errors_envelope(*validation.model_not_found(model, deployments))
        if found and found.sku not in validation.BATCH_SKUS and self._config.quirks.sku_check == "create":
            raise replies.errors_envelope(*validation.wrong_sku(found))
        return found
