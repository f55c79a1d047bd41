package perdure

import (
	"math"
	"testing"
	"time"
)

func TestDelayIsRoundedUp(t *testing.T) {
	for duration, want := range map[time.Duration]int64{
		0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, -1: 0, -time.Second: -1000, math.MaxInt64: 9223372036855,
	} {
		if got := milliseconds(duration); got != want {
			t.Errorf("%v became %d ms", duration, got)
		}
	}
}
