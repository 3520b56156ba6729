package page

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadersShareValuesForAPeriod reads keys again before and after their period, with a key that does not exist, and
// after an error.
func TestReadersShareValuesForAPeriod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		var reads []string
		var fault error
		get := func(keys ...string) string {
			found, err := s.get(10*time.Second, keys, func(missing []string) (map[string]int, error) {
				reads = append(reads, strings.Join(missing, " "))
				return map[string]int{"a": len(reads), "b": len(reads)}, fault
			})
			return fmt.Sprint(found, err)
		}
		for _, step := range []struct {
			wait  time.Duration
			fault error
			keys  string
			want  string
		}{
			{0, nil, "a gone", "map[a:1] <nil>"},
			{9 * time.Second, nil, "gone a b", "map[a:1 b:2] <nil>"},
			{2 * time.Second, errors.New("away"), "a b", "map[] away"},
			{0, nil, "a b", "map[a:4 b:2] <nil>"},
		} {
			time.Sleep(step.wait)
			fault = step.fault
			if got := get(strings.Fields(step.keys)...); got != step.want {
				t.Errorf("after %s, %s: got %s, want %s", step.wait, step.keys, got, step.want)
			}
		}
		if want := []string{"a gone", "b", "a", "a"}; !slices.Equal(reads, want) {
			t.Errorf("it read %q, want %q", reads, want)
		}
	})
}
