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

// Retries says how a client sends calls again that failed for a moment's reason: the server cannot be reached,
// restarts, does not know the outcome, or is overloaded.
//
// The pause after n failures is Initial * Multiplier^(n-1), at most Max, shortened by up to a half at random so that
// clients do not come back in step; or what the server asks for, where that is more. The call's deadline bounds all of
// it. Fields that are 0 have the defaults.
type Retries struct {
	Initial     time.Duration // default 100 ms
	Max         time.Duration // default 5 s
	Multiplier  float64       // default 2
	AttemptsMax int           // how often a call is sent at most; 0: no bound but its deadline
}

const (
	// multiplierMax is the maximum growth of the pause from one failure to the next.
	multiplierMax = 1000
	// pauseMax is the longest pause between two sendings, whatever the settings or the server ask for.
	pauseMax = 24 * time.Hour
)

// NoRetries sends each call once.
var NoRetries = Retries{AttemptsMax: 1}

// check rejects settings that cannot work. 0 is the default.
func (r Retries) check() error {
	switch {
	case r.Initial < 0:
		return invalidField("Retries.Initial", fmt.Sprintf("must not be negative: %v", r.Initial))
	case r.Max < 0:
		return invalidField("Retries.Max", fmt.Sprintf("must not be negative: %v", r.Max))
	case r.Multiplier != 0 && !(r.Multiplier >= 1 && r.Multiplier <= multiplierMax): // NaN, too
		return invalidField("Retries.Multiplier", fmt.Sprintf("must be 1 to %d: %v", multiplierMax, r.Multiplier))
	case r.AttemptsMax < 0:
		return invalidField("Retries.AttemptsMax", fmt.Sprintf("must not be negative: %d", r.AttemptsMax))
	}
	return nil
}

func (r Retries) withDefaults() Retries {
	if r.Initial == 0 {
		r.Initial = 100 * time.Millisecond
	}
	if r.Max == 0 {
		r.Max = 5 * time.Second
	}
	if r.Multiplier == 0 {
		r.Multiplier = 2
	}
	return r
}

// attempts are the sendings of one call, or the connections of one watch.
type attempts struct {
	retries Retries
	// deadline is zero for none.
	deadline time.Time
	// outage limits failures in a row after a response. NoTimeout removes the limit. Calls have NoTimeout.
	outage   time.Duration
	failures int
	chance   func() float64
}

func newAttempts(retries Retries, deadline time.Time) *attempts {
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
	if !failure.Transient() || a.failures == a.retries.AttemptsMax {
		return 0, false
	}
	now := time.Now()
	if a.deadline.IsZero() && a.outage <= timeoutMax {
		a.deadline = now.Add(a.outage)
	}
	// In floating point, bounded before it becomes a Duration: a watch may fail for days.
	ceiling := float64(a.retries.Initial) * math.Pow(a.retries.Multiplier, float64(a.failures-1))
	ceiling = min(ceiling, float64(a.retries.Max), float64(pauseMax))
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
