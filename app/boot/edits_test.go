package boot

import "testing"

func TestEdits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"web", "web", 0},
		{"web", "wep", 1},
		{"web", "ewb", 1},
		{"web", "we", 1},
		{"web", "weeb", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3},
	} {
		if got, back := Edits(c.a, c.b), Edits(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%q to %q: %d edits, back %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}
