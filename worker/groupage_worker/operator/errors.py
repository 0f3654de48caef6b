"""What a person can change: said in one sentence, exit status 2, never a traceback."""


class Mistake(Exception):
    """The call cannot be done as it is; the message is one sentence that says what would be right."""


class NotDone(Exception):
    """Something outside is in the way; the message is one sentence, and the same call may work later."""
