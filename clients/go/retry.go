package perdure

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// When a call is sent again: which errors are worth it, after which pause, for how long. No I/O.
//
// Every call is safe to send again: reads change nothing, and every mutating call carries a request id.

// CallRetryPolicy says how a client sends calls again that failed for a moment's reason: the server cannot be reached,
// restarts, does not know the outcome, or is overloaded.
//
// The pause after n failures is InitialBackoff * Multiplier^(n-1), at most MaxBackoff, shortened by up to a half at random so that
// clients do not come back in step; or what the server asks for, where that is more. The call's deadline bounds all of
// it. Fields that are 0 have the defaults.
type CallRetryPolicy struct {
	InitialBackoff     time.Duration // default 100 ms
	MaxBackoff         time.Duration // default 5 s
	Multiplier  float64       // default 2
	MaxAttempts int           // how often a call is sent at most; 0: no bound but its deadline
}

const (
	// multiplierMax is the maximum growth of the pause from one failure to the next.
	multiplierMax = 1000
	// pauseMax is the longest pause between two sendings, whatever the settings or the server ask for.
	pauseMax = 24 * time.Hour
)

// NoRetries sends each call once.
var NoRetries = CallRetryPolicy{MaxAttempts: 1}

// check rejects settings that cannot work. 0 is the default.
func (r CallRetryPolicy) check() error {
	switch {
	case r.InitialBackoff < 0:
		return invalidField("CallRetryPolicy.InitialBackoff", fmt.Sprintf("must not be negative: %v", r.InitialBackoff))
	case r.MaxBackoff < 0:
		return invalidField("CallRetryPolicy.MaxBackoff", fmt.Sprintf("must not be negative: %v", r.MaxBackoff))
	case r.Multiplier != 0 && !(r.Multiplier >= 1 && r.Multiplier <= multiplierMax): // NaN, too
		return invalidField("CallRetryPolicy.Multiplier", fmt.Sprintf("must be 1 to %d: %v", multiplierMax, r.Multiplier))
	case r.MaxAttempts < 0:
		return invalidField("CallRetryPolicy.MaxAttempts", fmt.Sprintf("must not be negative: %d", r.MaxAttempts))
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

// attempts are the sendings of one call, or the connections of one watch.
type attempts struct {
	retries CallRetryPolicy
	// deadline is zero for none.
	deadline time.Time
	// outage limits failures in a row after a response. NoTimeout removes the limit. Calls have NoTimeout.
	outage   time.Duration
	failures int
	chance   func() float64
}

func newAttempts(retries CallRetryPolicy, deadline time.Time) *attempts {
	return &attempts{retries: retries, deadline: deadline, outage: NoTimeout, chance: rand.Float64}
}

// answered notes that the server answered: failures from now on are counted anew and bounded by the outage.
func (a *attempts) answered() {
	a.failures = 0
	a.deadline = time.Time{}
}

// pauseAfter gives the pause before the next sending, or false where the error is the call's answer.
func (a *attempts) pauseAfter(failure *Error) (time.Duration, bool) {
	a.failures++
	if !failure.Retryable() || a.failures == a.retries.MaxAttempts {
		return 0, false
	}
	now := time.Now()
	if a.deadline.IsZero() && a.outage <= timeoutMax {
		a.deadline = now.Add(a.outage)
	}
	// In floating point, bounded before it becomes a Duration: a watch may fail for days.
	ceiling := float64(a.retries.InitialBackoff) * math.Pow(a.retries.Multiplier, float64(a.failures-1))
	ceiling = min(ceiling, float64(a.retries.MaxBackoff), float64(pauseMax))
	pause := max(time.Duration(ceiling*(1-a.chance()/2)), min(failure.RetryAfter, pauseMax))
	return pause, a.deadline.IsZero() || now.Add(pause).Before(a.deadline)
}

// sleep waits, or returns an error when the context ends first; the error names what failed before it.
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
