"""Names of all violations that the checker can find. A violation is a broken promise and its location."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Name(enum.StrEnum):
    """Each names one way of breaking a promise of DESIGN section 4 (its number in brackets)."""

    # histories and states [4]
    HISTORY_GAP = "a history has a gap"
    HISTORY_UNFOLDABLE = "a history cannot be folded"
    STATE_IS_NOT_THE_FOLD = "a stored state differs from its folded history"
    COLUMNS_DIFFER = "a column differs from the state that it repeats"
    TIMER_ROWS_DIFFER = "the rows of timers are not those of the state"
    TASK_ROWS_DIFFER = "the rows of tasks are not those of the state"
    PAYLOAD_DIFFERS = "a payload is missing, superfluous or not what its fact says"
    ORPHAN_ROWS = "rows belong to an instance that does not exist"
    DATABASE_CORRUPT = "the database's own check fails"

    # one fact after the other [3, 5, 6]
    FACT_AFTER_END = "something happened after the end"
    FACT_ILLEGAL = "a fact does not follow from the state before it"
    ATTEMPT_UNFENCED = "an attempt's fact counts although another attempt is current"
    JOIN_BROKEN = "a step started or was skipped against its join"
    TIMER_EARLY = "a timer acted before it was due"
    TIMER_FIRED_TWICE = "a timer acted twice"
    TIMER_UNKNOWN = "a timer acted that does not exist"
    TIMER_USE_WRONG = "a timer acted, or did not, against what it found"
    EVENT_OUT_OF_ORDER = "a step took a buffered event before an older one"
    EVENT_CONSUMED_TWICE = "a buffered event was consumed twice"
    EVENT_OVERTAKEN = "a buffered event was passed over"
    EVENT_UNREPORTED = "the unconsumed events of an end are not those of the inbox"

    # calls [1, 2]
    ANSWERED_BUT_MISSING = "a call was answered OK and its effect is not there"
    ANSWER_WRONG = "a response does not match the effect"
    REJECTED_BUT_APPLIED = "a call was rejected but took effect"
    EFFECT_TWICE = "one request took effect twice"
    EFFECT_SHARED = "two requests were answered with one effect"
    EFFECT_WITHOUT_CAUSE = "an effect has no request"
    ANSWERS_DIFFER = "a repeat has another response than its first send"
    REPEAT_REJECTED = "a repeat was rejected although its first send took effect"
    REUSE_ACCEPTED = "a request id was accepted with two bodies"
    REJECTION_WRONG = "a rejection has a wrong reason"
    STATUS_UNEXPECTED = "a status that no handler may raise"
    ORDER_BROKEN = "a call that ended before another started has the higher revision"
    TIME_WRONG = "an effect is dated outside of its call"
    KEY_SHARED = "two live instances hold one business key"

    # reads and watches [7, 8]
    READ_STALE = "a read misses what was answered before it"
    READ_WRONG = "a read shows what the history does not hold"
    LIST_MISSES = "a list misses an instance, or shows it twice"
    WATCH_GAP = "a watch left out an entry"
    WATCH_REPEAT = "a watch gave an entry twice"
    WATCH_ORDER = "a watch gave entries out of order"
    WATCH_WRONG = "a watch gave an entry that is not in the history"
    WATCH_END_WRONG = "a watch ended where the instance did not"
    WATCH_FELL_SHORT = "a watch did not reach the newest entry"
    WATCH_REJECTED = "a watch could not continue from a revision that it had received"

    # steps ["at least once, counted at most once"]
    ATTEMPT_TWICE = "one attempt ran twice"
    ATTEMPT_UNRECORDED = "an attempt ran that the history does not hold"
    ATTEMPT_AFTER_FINISH = "a finished step ran again"
    RESULT_WITHOUT_RUN = "a result counts although its code never ran"
    RESULT_STALE = "the result of an older attempt was counted"
    STEP_SAW_WRONG_INPUT = "a step had another input than the history"

    # at rest
    STUCK = "an instance is live but has nothing to do"
    TIMER_LOST = "a timer is long due and did not act"
    EVENT_LOST = "a step waits for an event that its inbox holds"
    NOT_QUIET = "the server did not come to rest"
    SERVER_COMPLAINED = "the server logged an error"


@dataclass(frozen=True, slots=True)
class Violation:
    name: Name
    where: str
    """The instance, watch or call."""
    message: str

    def __str__(self) -> str:
        return f"{self.name.name} ({self.name}): {self.where}: {self.message}"
