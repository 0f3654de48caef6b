"""Error answers in the service's envelopes (section 7.1 of `reference/azure-batch.md`, 2026-11-20)."""

from groupage_emulator.faults import Rule


class Refusal(Exception):
    """An answer that is an error, raised by operations and turned into HTTP in one place.

    Attributes:
        status: HTTP status.
        body: What becomes the JSON body.
    """

    def __init__(self, status: int, body: dict[str, object]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body

    @property
    def code(self) -> str:
        """The error code in either envelope."""
        match self.body:
            case {"error": {"code": code}} | {"errors": {"data": [{"code": code}, *_]}}:
                return str(code)
        return ""


def entry(
    code: str, message: str, line: int | str | None = None, param: str | None = None
) -> dict[str, object]:
    """One entry of `errors.data`."""
    return {"code": code, "message": message, "param": param, "line": line}


def errors_envelope(code: str, message: str, status: int = 400) -> Refusal:
    """E1: top-level `errors` and no `error`, as POST /batches answers."""
    return Refusal(status, {"errors": {"data": [entry(code, message)], "object": "list"}})


def error_envelope(status: int, code: str, message: str) -> Refusal:
    """E2 and E5: `error` with code and message."""
    return Refusal(status, {"error": {"code": code, "message": message}})


def resource_not_found() -> Refusal:
    """E3: wrong path or api-version."""
    return error_envelope(404, "404", "Resource not found")


def not_found(kind: str, name: str) -> Refusal:
    """E5 for an id that this resource does not know."""
    return error_envelope(404, "notFound", f"The specified {kind} '{name}' could not be found.")


def unauthorized() -> Refusal:
    """A missing or wrong key; no source shows Azure's body for batch, these are the words of the online API."""
    return error_envelope(
        401,
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an"
        " active subscription and use a correct regional API endpoint for your resource.",
    )


def injected(rule: Rule) -> dict[str, object]:
    """The body of a scripted `http_status` fault that brings none of its own."""
    code = rule.code or str(rule.status)
    make = (
        errors_envelope(code, rule.message)
        if rule.envelope == "errors"
        else error_envelope(0, code, rule.message)
    )
    return make.body
