package boot

// Edits returns the number of edits from a to b: one more byte, one less, another byte, or two neighbours exchanged
// (the optimal string alignment distance).
func Edits(a, b string) int {
	d := make([][]int, len(a)+1) // d[i][j] is the number of edits from a[:i] to b[:j]
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := range len(a) {
		for j := range len(b) {
			d[i+1][j+1] = 1 + min(d[i][j], d[i+1][j], d[i][j+1])
			if a[i] == b[j] {
				d[i+1][j+1] = d[i][j]
			}
			if endExchanged(a[:i+1], b[:j+1]) {
				d[i+1][j+1] = min(d[i+1][j+1], 1+d[i-1][j-1])
			}
		}
	}
	return d[len(a)][len(b)]
}

// endExchanged reports whether the last two bytes of a are those of b exchanged.
func endExchanged(a, b string) bool {
	i, j := len(a)-1, len(b)-1
	return i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j]
}
