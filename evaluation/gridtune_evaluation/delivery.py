"""Bringing the last word home, however long the service is away."""

from __future__ import annotations

import dataclasses
import logging
from typing import Callable, Final

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import Refused, ServiceError, Unreachable
from gridtune_common.protocol import FailureCause
from gridtune_evaluation.outage import Outage, backoff, is_forbidden, passes
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.spool import Held, Letter, Spool
from gridtune_evaluation.steering import Steering

_log = logging.getLogger("gridtune.agent")

#: Seconds to repeat what the service answers with an error of its own; then the slot goes on without.
_PATIENCE_WITH_ERRORS: Final = 300.0


def send(steering: Steering, letter: Letter) -> protocol.Outcome:
    """Say it once."""
    message = letter.message
    if isinstance(message, protocol.Tell):
        return steering.tell(letter.evaluation, message)
    if isinstance(message, protocol.Fail):
        return steering.fail(letter.evaluation, message)
    return steering.release(letter.evaluation, message)


def deliver(
    steering: Steering,
    spool: Spool,
    held: Held,
    shutdown: Shutdown,
    *,
    give_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Say it until the service has answered; tell whether it has.

    An agent that is asked to end, or has to *give up*, tries once more and leaves the letter to the next one.
    """
    outage = Outage("deliver a result")
    for pause in backoff():
        last_try = give_up() or shutdown.asked
        try:
            outcome = send(steering, held.letter)
        except ServiceError as error:
            if not passes(error):
                return _was_refused(steering, spool, held, shutdown, error)
            outage.note(error)
            if last_try or (not isinstance(error, Unreachable) and outage.seconds > _PATIENCE_WITH_ERRORS):
                return _leave(held, error)
        else:
            outage.over()
            _note(held.letter, outcome)
            held.delivered()
            return True
        shutdown.pause(pause)
    raise AssertionError("the back-off never ends")


def deliver_leftovers(steering: Steering, spool: Spool, server: str) -> None:
    """Say once what earlier agents could not, as far as this agent's token permits."""
    for held in spool.leftovers(server):
        try:
            outcome = send(steering, held.letter)
        except ServiceError as error:
            # 404 is also what a service says that hides other people's tasks.
            if passes(error) or is_forbidden(error) or _is_unknown(error):
                _leave(held, error)
            else:
                _put_aside(held, error)
        else:
            _note(held.letter, outcome)
            held.delivered()


def _was_refused(steering: Steering, spool: Spool, held: Held, shutdown: Shutdown, error: ServiceError) -> bool:
    message = held.letter.message
    if is_forbidden(error):
        return _leave(held, error)
    if isinstance(message, protocol.Tell) and isinstance(error, Refused) and error.status == 422:
        failure = protocol.Fail(
            new_request_id(),
            message.epoch,
            FailureCause.INVALID_RESULT,
            str(error),
            exit_code=message.exit_code,
            leaving=message.leaving,
        )
        instead = spool.put(dataclasses.replace(held.letter, message=failure))
        _put_aside(held, error)
        return deliver(steering, spool, instead, shutdown)
    _put_aside(held, error)
    return True


def _leave(held: Held, error: ServiceError) -> bool:
    text = "The last word of evaluation %s stays in the spool for the next agent: %s"
    _log.error(text, held.letter.evaluation, error, extra=_extra("delivery_left", held.letter))
    held.left()
    return False


def _put_aside(held: Held, error: ServiceError) -> None:
    text = "The service refused the last word of evaluation %s: %s"
    _log.error(text, held.letter.evaluation, error, extra=_extra("delivery_refused", held.letter))
    held.refused(str(error))


def _is_unknown(error: ServiceError) -> bool:
    return isinstance(error, Refused) and error.status == 404


def _note(letter: Letter, outcome: protocol.Outcome) -> None:
    kind = type(letter.message).__name__
    if outcome.accepted:
        _log.debug("%s of evaluation %s delivered.", kind, letter.evaluation, extra=_extra("delivered", letter))
    else:
        text = "%s of evaluation %s changed nothing: %s"
        _log.info(text, kind, letter.evaluation, outcome.reason, extra=_extra("not_accepted", letter))


def _extra(action: str, letter: Letter) -> dict[str, str]:
    return {"action": action, "task": letter.task, "evaluation": letter.evaluation}
