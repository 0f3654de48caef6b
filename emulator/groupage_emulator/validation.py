"""Validation of an input file: every code of section 7.2 of `reference/azure-batch.md` (2026-11-20), and the plan.

Each line is parsed once; the same pass finds what is wrong with it and computes its answer. Messages of codes whose
official text was never published are our own (end of section 10).
"""

import codecs
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from groupage_emulator import answers
from groupage_emulator.clock import Slices
from groupage_emulator.config import DeploymentConfig, RegionConfig
from groupage_emulator.plan import Plan
from groupage_emulator.profiles import Profile
from groupage_emulator.replies import entry

ERRORS_MAX = 50
NO_MODEL = (
    "A valid model deployment name couldn't be extracted from the input file. Ensure that each row in the input file"
    " has a valid deployment name specified in the model field, and that the deployment name is consistent across all"
    " rows."
)
EMPTY = "The input file is empty. Please ensure that the batch contains at least one request."
BATCH_SKUS = ("GlobalBatch", "DataZoneBatch")
RESPONSES = "/responses"


class Line(msgspec.Struct):
    """One line of an input file (section 3)."""

    custom_id: str
    method: str
    url: str
    body: dict[str, Any]


_DECODER = msgspec.json.Decoder(Line)


class Invalid(Exception):
    """The file is refused; `entries` become `errors.data`."""

    def __init__(self, entries: list[dict[str, object]]) -> None:
        super().__init__(f"{entries[0]}")
        self.entries = entries


def model_not_found(name: str, valid: Collection[str]) -> tuple[str, str]:
    """Code and message of a deployment that does not exist (section 7.1)."""
    names = ", ".join(valid)
    return "model_not_found", (
        f"The provided model deployment '{name}' does not exist in the AOAI resource. Valid deployments are '{names}'."
        " Learn more: https://aka.ms/aoai_batch/errors."
    )


def wrong_sku(deployment: DeploymentConfig) -> tuple[str, str]:
    """Code and message of a deployment that takes no batches."""
    return "invalid_request", (
        f"The deployment '{deployment.name}' has the SKU '{deployment.sku}'. Please ensure that the deployment SKU is"
        " 'globalbatch' for batch API requests."
    )


def bare_url(url: str) -> str:
    """The url without `/v1`, which the service takes for the same (section 3)."""
    return url.removeprefix("/v1")


def first_model(path: Path) -> str | None:
    """The deployment name of a file's first line, or None where there is none to be found.

    A create looks no further (section 7.1: `model_not_found` is answered at once).
    """
    with path.open("rb") as lines:
        try:
            model = _DECODER.decode(lines.readline()).body.get("model")
        except msgspec.MsgspecError:
            return None
    return model if isinstance(model, str) and model else None


@dataclass(slots=True, kw_only=True)
class Validation:
    """One pass over one input file.

    Attributes:
        region: The region's configuration.
        profile: That of the create.
        endpoint: Of the create.
    """

    region: RegionConfig
    profile: Profile
    endpoint: str

    async def run(self, path: Path, plan: Plan) -> None:
        """Checks all lines and fills the plan.

        Args:
            path: The input file.
            plan: Empty; the caller closes it.

        Raises:
            Invalid: The file is refused.
        """
        found: list[dict[str, object]] = []
        ids: set[str] = set()
        url: str | None = None
        slices = Slices()
        with path.open("rb") as lines:
            if lines.read(3) == codecs.BOM_UTF8:
                raise Invalid([entry("invalid_request", NO_MODEL)])
            lines.seek(0)
            for number, raw in enumerate(lines):
                await slices.breathe()
                if raw.isspace():
                    continue
                if len(ids) >= self.region.limits.lines_max:
                    raise Invalid([self._too_many()])
                problem = self._take(raw, ids, url, plan)
                if isinstance(problem, str):
                    url = problem
                    continue
                found.append(entry(*problem, self._number(number)))
                if len(found) >= ERRORS_MAX:
                    break
        if found:
            raise Invalid(found)
        if not ids:
            raise Invalid([entry("empty_file" if self.profile.is_azure else "empty_batch", EMPTY)])

    def _take(self, raw: bytes, ids: set[str], url: str | None, plan: Plan) -> str | tuple[str, str]:
        """Checks one line; returns its url when it was planned, else code and message."""
        try:
            line = _DECODER.decode(raw)
        except msgspec.ValidationError as error:
            return "invalid_request", f"The schema of the input line is invalid: {error}"
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "invalid_json_line", "This line is not parseable as valid JSON."
        problem = self._line_problem(line, ids, url, plan)
        if problem is not None:
            return problem
        plan.append(
            answers.answer(
                line.custom_id,
                line.body,
                raw,
                is_responses=line.url.endswith(RESPONSES),
                counting=self.region.counting,
                reply_bytes=self.region.reply_bytes,
            )
        )
        return line.url

    def _line_problem(self, line: Line, ids: set[str], url: str | None, plan: Plan) -> tuple[str, str] | None:
        """What is wrong with a line of the right shape, if anything; takes its id."""
        custom_id = line.custom_id
        if custom_id in ids:
            return (
                "duplicate_custom_id",
                f"The custom_id '{custom_id}' is a duplicate of another request's custom_id.",
            )
        ids.add(custom_id)
        if not custom_id or line.method != "POST":
            return "invalid_request", "custom_id must not be empty and method must be 'POST'."
        if line.url != url and (problem := self._url(line.url, url)) is not None:
            return problem
        model = line.body.get("model")
        return None if model == plan.deployment else self._model(model, plan)

    def _url(self, mine: str, others: str | None) -> tuple[str, str] | None:
        """What is wrong with a url that differs from the line before, if anything."""
        azure = self.profile.is_azure
        allowed = mine in self.profile.urls or (
            mine.endswith("/embeddings") and self.region.quirks.embeddings
        )
        same = others is None or (azure and bare_url(mine) == bare_url(others))
        suits = (
            mine == self.endpoint or (azure and bare_url(mine) in (bare_url(self.endpoint), RESPONSES))
        )  # the service reads the file to choose the API: sources of section 3 create responses with /chat/completions
        if allowed and same and suits:
            return None
        return "url_mismatch", (
            f"The url '{mine}' does not match the other requests of the file or the endpoint '{self.endpoint}'."
        )

    def _model(self, model: object, plan: Plan) -> tuple[str, str] | None:
        """What is wrong with a deployment name that differs from the line before, if anything."""
        if not isinstance(model, str) or not model:
            return "invalid_request", NO_MODEL
        if plan.deployment:
            return "model_mismatch", (
                f"The deployment name '{model}' does not match the rest of the file, which has '{plan.deployment}'."
            )
        deployment = next((one for one in self.region.deployments if one.name == model), None)
        if deployment is None:
            return model_not_found(model, [one.name for one in self.region.deployments])
        if deployment.sku not in BATCH_SKUS:
            return wrong_sku(deployment)
        plan.deployment = model
        return None

    def _too_many(self) -> dict[str, object]:
        return entry(
            "too_many_tasks",
            "The number of requests in the input file exceeds the maximum allowed value of"
            f" {self.region.limits.lines_max:,}.",
        )

    def _number(self, index: int) -> int | str:
        number = index + self.region.quirks.line_base
        return str(number) if self.region.quirks.line_as_string else number
