package perdure

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Retries of calls and watches. Every call is safe to retry: reads change nothing, and every call that writes carries a
// request ID.

// CallRetryPolicy controls how the client retries a call that fails with a retryable error: the server cannot be reached,
// is shutting down, is overloaded, or cannot tell whether the write was committed.
//
// The backoff after failure n is InitialBackoff * Multiplier^(n-1), at most MaxBackoff. The client subtracts up to half of
// it at random, so that many clients do not retry at the same time. If the server asks for a longer backoff, the client
// uses that. The call's deadline limits the retries. A field that is 0 has its default.
type CallRetryPolicy struct {
	// InitialBackoff is the backoff after the first failure. The default is 100 ms.
	InitialBackoff time.Duration
	// MaxBackoff is the longest backoff. The default is 5 s.
	MaxBackoff time.Duration
	// Multiplier is the growth of the backoff after each failure, from 1 to 1,000. The default is 2.
	Multiplier float64
	// MaxAttempts is the maximum number of times that a call is sent. By default only the deadline limits it.
	MaxAttempts int
}

const (
	// multiplierMax is the largest valid multiplier.
	multiplierMax = 1000
	// backoffMax limits each backoff, whatever the policy or the server asks for.
	backoffMax = 24 * time.Hour
	// disconnectFailuresMin is the number of failures in a row after which a watch counts as disconnected. One failure
	// is normal: the client renews streams, and a stopping server ends them.
	disconnectFailuresMin = 2
)

// NoRetries sends each call once.
var NoRetries = CallRetryPolicy{MaxAttempts: 1}

func (r CallRetryPolicy) check() error {
	if err := checkNotNegative("Retry.InitialBackoff", r.InitialBackoff); err != nil {
		return err
	}
	if err := checkNotNegative("Retry.MaxBackoff", r.MaxBackoff); err != nil {
		return err
	}
	if r.Multiplier != 0 && !(r.Multiplier >= 1 && r.Multiplier <= multiplierMax) { // rejects NaN, too
		return invalidField("Retry.Multiplier", fmt.Sprintf("must be from 1 to %d, not %v", multiplierMax, r.Multiplier))
	}
	if r.MaxAttempts < 0 {
		return invalidField("Retry.MaxAttempts", fmt.Sprintf("must not be negative, not %d", r.MaxAttempts))
	}
	return nil
}

func (r CallRetryPolicy) withDefaults() CallRetryPolicy {
	if r.InitialBackoff == 0 {
		r.InitialBackoff = 100 * time.Millisecond
	}
	if r.MaxBackoff == 0 {
		r.MaxBackoff = 5 * time.Second
	}
	if r.Multiplier == 0 {
		r.Multiplier = 2
	}
	return r
}

// attempts counts the attempts of one call, or the streams of one watch.
type attempts struct {
	policy CallRetryPolicy
	// deadline is zero for none.
	deadline time.Time
	// reconnectTimeout limits the failures in a row after a response. Calls have NoTimeout.
	reconnectTimeout time.Duration
	failures         int
	// rng returns a number from 0 to 1.
	rng func() float64
}

func newAttempts(policy CallRetryPolicy, deadline time.Time) *attempts {
	return &attempts{policy: policy, deadline: deadline, reconnectTimeout: NoTimeout, rng: rand.Float64}
}

// answered records a response: the next failure is the first one again, and reconnectTimeout limits those that follow.
func (a *attempts) answered() {
	a.failures = 0
	a.deadline = time.Time{}
}

// disconnected reports whether the failures so far are a disconnect.
func (a *attempts) disconnected() bool {
	return a.failures >= disconnectFailuresMin
}

// pauseAfter returns the backoff before the next attempt, or false if failure is the final result.
func (a *attempts) pauseAfter(failure *Error) (time.Duration, bool) {
	a.failures++
	if !failure.Retryable() || a.failures == a.policy.MaxAttempts {
		return 0, false
	}
	now := time.Now()
	if a.deadline.IsZero() && a.reconnectTimeout <= timeoutMax {
		a.deadline = now.Add(a.reconnectTimeout)
	}
	// Calculated in floating point and limited before the conversion: a watch can fail for days.
	ceiling := float64(a.policy.InitialBackoff) * math.Pow(a.policy.Multiplier, float64(a.failures-1))
	ceiling = min(ceiling, float64(a.policy.MaxBackoff), float64(backoffMax))
	pause := max(time.Duration(ceiling*(1-a.rng()/2)), min(failure.RetryAfter, backoffMax))
	return pause, a.deadline.IsZero() || now.Add(pause).Before(a.deadline)
}

// sleep waits, or returns an error if the context ends first. The error contains the failure before it.
func sleep(ctx context.Context, pause time.Duration, failure *Error) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx, failure)
	}
}
