package migrations

import "testing"

func TestTheOldestVersionIsBeforeTheAdditiveSteps(t *testing.T) {
	t.Parallel()
	all := []step{{}, {}, {additive: true}, {additive: true}, {}}
	for version, want := range []int{0, 1, 2, 2, 2, 5} {
		if got := oldest(all, version); got != want {
			t.Errorf("beside version %d, processes of version %d may go on, want %d", version, got, want)
		}
	}
}
