package perdure

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

var lost = &Error{Code: codes.Unavailable}

func pausesOf(attempts *attempts, failure *Error, count int) []time.Duration {
	var pauses []time.Duration
	for range count {
		pause, again := attempts.pauseAfter(failure)
		if !again {
			break
		}
		pauses = append(pauses, pause)
		time.Sleep(pause) // the clock of synctest: no real time passes
	}
	return pauses
}

func attemptsWith(policy CallRetryPolicy, timeout time.Duration, random float64) *attempts {
	made := newAttempts(policy.withDefaults(), time.Now().Add(timeout))
	made.rng = func() float64 { return random }
	return made
}

func TestBackoffDoublesUpToTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := CallRetryPolicy{InitialBackoff: time.Second, MaxBackoff: 5 * time.Second}
		pauses := pausesOf(attemptsWith(policy, time.Hour, 0), lost, 5)
		if !slices.Equal(pauses, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}) {
			t.Error(pauses)
		}
	})
}

func TestJitterSubtractsUpToHalfOfTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pauses := pausesOf(attemptsWith(CallRetryPolicy{InitialBackoff: time.Second}, time.Hour, 1), lost, 1)
		if !slices.Equal(pauses, []time.Duration{500 * time.Millisecond}) {
			t.Error(pauses)
		}
	})
}

func TestBackoffStaysAtTheMaximumForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pauses := pausesOf(attemptsWith(CallRetryPolicy{}, 10*24*time.Hour, 0), lost, 100_000)
		if last := pauses[len(pauses)-1]; last != 5*time.Second {
			t.Error(last)
		}
	})
}

func TestLongerRetryAfterReplacesTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		overloaded := &Error{Code: codes.ResourceExhausted, Reason: ErrOverloaded, RetryAfter: time.Second}
		pauses := pausesOf(attemptsWith(CallRetryPolicy{}, time.Hour, 0), overloaded, 6)
		if pauses[0] != time.Second || pauses[5] != 3200*time.Millisecond {
			t.Error(pauses)
		}
	})
}

func TestBackoffEndsBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pauses := pausesOf(attemptsWith(CallRetryPolicy{InitialBackoff: time.Second}, 3500*time.Millisecond, 0), lost, 100)
		if !slices.Equal(pauses, []time.Duration{1e9, 2e9}) {
			t.Error(pauses)
		}
	})
}

func TestMaxAttemptsLimitsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if pauses := pausesOf(attemptsWith(NoRetries, time.Hour, 0), lost, 1); len(pauses) != 0 {
			t.Error(pauses)
		}
		if pauses := pausesOf(attemptsWith(CallRetryPolicy{MaxAttempts: 3}, time.Hour, 0), lost, 9); len(pauses) != 2 {
			t.Error(pauses)
		}
	})
}

func TestReconnectTimeoutStartsAgainAfterAResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watch := attemptsWith(CallRetryPolicy{InitialBackoff: time.Second, MaxBackoff: time.Second}, time.Second, 0)
		watch.reconnectTimeout = 3500 * time.Millisecond
		for range 3 {
			watch.answered()
			time.Sleep(time.Hour)
			if pauses := pausesOf(watch, lost, 100); len(pauses) != 3 {
				t.Error(pauses)
			}
		}
	})
}
