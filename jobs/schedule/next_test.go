package schedule

import (
	"strings"
	"testing"
	"time"
)

// A time without a monotonic reading is late by as much as the machine's clock steps back.
func TestAStepOfTheMachinesClockDelaysNoRun(t *testing.T) {
	t.Parallel()
	j := &entry{Job: Job{Every: 2 * time.Second}}
	if next := j.next(); !strings.Contains(next.String(), " m=+") || time.Until(next) > j.Every {
		t.Errorf("the next run is at %s", next)
	}
}
