"""Rows of output and error files, and bodies of online answers, as bytes (section 5 of `reference/azure-batch.md`).

Rows are put together from templates because a region writes tens of thousands of them a second; everything that comes
from a request goes through the JSON encoder.
"""

from dataclasses import dataclass

import msgspec

from groupage_emulator.answers import Answer, text

_json = msgspec.json.Encoder().encode

_SAFE = (
    b'{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},'
    b'"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}'
)
_SAFE_PROMPT = _SAFE[:-1] + b',"jailbreak":{"filtered":false,"detected":false}}'
_BLOCKED = _SAFE.replace(
    b'"violence":{"filtered":false,"severity":"safe"}', b'"violence":{"filtered":true,"severity":"high"}'
)

_CHAT = (
    b'{"choices":[{%(choice_filter)b"finish_reason":"%(finish)b","index":0,"logprobs":null,"message":%(message)b}],'
    b'"created":%(created)d,"id":"chatcmpl-%(id)b","model":%(model)b,"object":"chat.completion",%(prompt_filter)b'
    b'"system_fingerprint":"fp_emulator","usage":{"completion_tokens":%(out)d,"completion_tokens_details":'
    b'{"reasoning_tokens":0},"prompt_tokens":%(in)d,"prompt_tokens_details":{"cached_tokens":0},'
    b'"total_tokens":%(total)d}}'
)
_RESPONSE = (
    b'{"id":"resp_%(id)b","object":"response","created_at":%(created)d.0,"status":"completed","error":null,'
    b'"incomplete_details":null,"instructions":null,"model":%(deployment)b,"output":[%(message)b],"parallel_tool_calls"'
    b':true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,%(content_filters)b"usage":{"input_tokens"'
    b':%(in)d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%(out)d,"output_tokens_details":'
    b'{"reasoning_tokens":0},"total_tokens":%(total)d}}'
)

_REASONS = {
    "429": ("rate_limit_exceeded", "Requests per limit rate limit exceeded in Batch API."),
    "500": ("internal_server_error", "The server had an error while processing your request."),
    "missing": ("missing_required_parameter", "Missing required parameter: 'messages'."),
    "stream": ("unsupported_value", "Streaming is not supported in batch requests."),
}
_PROMPT_BLOCKED = (
    b'{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI\'s content management'
    b' policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":'
    b'"ResponsibleAIPolicyViolation","content_filter_result":'
    + _BLOCKED[:-1]
    + b',"jailbreak":{"filtered":false,"detected":false}}}}}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What all answers of one batch or deployment have in common.

    Attributes:
        model: The model with its date.
        is_azure: Whether content filter results belong to it.
        has_line_id: Whether rows have a top-level `id`, as OpenAI's do.
        reply_bytes: Length of the default text.
    """

    model: str
    is_azure: bool
    has_line_id: bool
    reply_bytes: int


def body(made: Answer, voice: Voice, request_id: bytes, created: int) -> bytes:
    """The response body of a good answer."""
    blocked = made.directive == "completion_filter"
    content = made.content or text(f"sha256:{made.digest}", voice.reply_bytes)
    if blocked or made.directive == "empty":
        content = ""
    render = _responses_body if made.is_responses else _chat_body
    return render(made, voice, request_id.replace(b"-", b""), created, content, blocked=blocked)


def _chat_body(
    made: Answer, voice: Voice, ident: bytes, created: int, content: str, *, blocked: bool
) -> bytes:
    encoded, finish = _json(content), b"content_filter" if blocked else b"stop"
    if made.tool and not blocked:
        finish = b"tool_calls"
        message = (
            b'{"content":null,"refusal":null,"role":"assistant","tool_calls":[{"function":{"arguments":%b,"name":%b},'
            b'"id":"call_%b","type":"function"}]}' % (encoded, _json(made.tool), ident[:24])
        )
    else:
        message = b'{"content":%b,"refusal":null,"role":"assistant"}' % encoded
    return _CHAT % {
        b"choice_filter": b'"content_filter_results":%b,' % (_BLOCKED if blocked else _SAFE)
        if voice.is_azure
        else b"",
        b"prompt_filter": b'"prompt_filter_results":[{"prompt_index":0,"content_filter_results":%b}],'
        % _SAFE_PROMPT
        if voice.is_azure
        else b"",
        b"finish": finish,
        b"message": message,
        b"created": created,
        b"id": ident,
        b"model": _json(voice.model),
        b"in": made.input_tokens,
        b"out": made.output_tokens,
        b"total": made.input_tokens + made.output_tokens,
    }


def _responses_body(
    made: Answer, voice: Voice, ident: bytes, created: int, content: str, *, blocked: bool
) -> bytes:
    if made.tool and not blocked:
        message = (
            b'{"type":"function_call","id":"fc_%b","call_id":"call_%b","name":%b,"arguments":%b,"status":"completed"}'
            % (ident, ident[:24], _json(made.tool), _json(content))
        )
    else:
        message = (
            b'{"id":"msg_%b","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text",'
            b'"annotations":[],"logprobs":[],"text":%b}]}' % (ident, _json(content))
        )
    return _RESPONSE % {
        b"content_filters": b'"content_filters":[{"blocked":%b,"source_type":"completion","content_filter_results":%b}],'
        % (b"true" if blocked else b"false", _BLOCKED if blocked else _SAFE)
        if voice.is_azure
        else b"",
        b"message": message,
        b"created": created,
        b"id": ident,
        b"deployment": _json(made.deployment),
        b"in": made.input_tokens,
        b"out": made.output_tokens,
        b"total": made.input_tokens + made.output_tokens,
    }


def _row(custom_id: str, voice: Voice, request_id: bytes, status: int, response_body: bytes) -> bytes:
    line_id = b'"id":"batch_req_%b",' % request_id if voice.has_line_id else b""
    return b'{%b"custom_id":%b,"response":{"body":%b,"request_id":"%b","status_code":%d},"error":null}\n' % (
        line_id,
        _json(custom_id),
        response_body,
        request_id,
        status,
    )


def good(made: Answer, voice: Voice, request_id: bytes, created: int, custom_id: str) -> bytes:
    """A row of the output file."""
    return _row(custom_id, voice, request_id, 200, body(made, voice, request_id, created))


def failed(made: Answer, voice: Voice, request_id: bytes, reason: str) -> bytes:
    """A row of the error file for a line that was tried.

    Args:
        made: The answer that was not to be.
        voice: The batch's.
        request_id: UUID.
        reason: `content_filter`, `timeout`, `zero`, `missing`, `stream` or `status=NNN`.
    """
    if reason == "timeout":
        return unanswered(made.custom_id, voice, request_id, "request_timeout", "The request timed out.")
    status, response_body = failure(reason)
    return _row(made.custom_id, voice, request_id, status, response_body)


def failure(reason: str) -> tuple[int, bytes]:
    """HTTP status and body of a failed inference."""
    if reason == "content_filter":
        return 400, _PROMPT_BLOCKED
    if reason == "zero":
        return 0, b"{}"
    word = reason.removeprefix("status=")
    code, message = _REASONS.get(word, ("invalid_request_error", f"The request failed with {word}."))
    error = {"message": message, "type": "server_error" if word[0] == "5" else "invalid_request_error"}
    return int(word) if word.isdigit() else 400, _json({"error": error | {"param": None, "code": code}})


def unanswered(custom_id: str, voice: Voice, request_id: bytes, code: str, message: str) -> bytes:
    """A row of the error file for a line without an HTTP answer: cancelled, expired or timed out."""
    line_id = b'"id":"batch_req_%b",' % request_id if voice.has_line_id else b""
    return b'{%b"custom_id":%b,"response":null,"error":{"code":%b,"message":%b}}\n' % (
        line_id,
        _json(custom_id),
        _json(code),
        _json(message),
    )
