package app

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Statuses is a set of HTTP statuses from 100 to 599, as ascending ranges:
// "200-299,401". Two sets are equal if and only if they are ==. The zero value is
// the empty set.
type Statuses string

// StatusRange returns the statuses from lo to hi.
func StatusRange(lo, hi int) Statuses { return joinStatuses([]statusRange{{lo, hi}}) }

// Contains reports whether status is in the set.
func (s Statuses) Contains(status int) bool {
	for part := range strings.SplitSeq(string(s), ",") {
		if r, ok := parseStatusRange(part); ok && r.lo <= status && status <= r.hi {
			return true // one number or range, however wrong
		}
	}
	return false
}

// Range returns the bounds of a set that is one range.
func (s Statuses) Range() (lo, hi int, ok bool) {
	r, ok := parseStatusRange(string(s))
	return r.lo, r.hi, ok
}

type statusRange struct{ lo, hi int }

// parseStatuses parses a list of statuses, ranges and classes: "200,204", "200-299,401" or "2xx".
func parseStatuses(list string) (Statuses, bool) {
	var ranges []statusRange
	for part := range strings.SplitSeq(list, ",") {
		r, ok := parseStatusRange(part)
		if !ok {
			return "", false
		}
		ranges = append(ranges, r)
	}
	return joinStatuses(ranges), true
}

// joinStatuses sorts ranges and merges ranges that overlap or adjoin.
func joinStatuses(ranges []statusRange) Statuses {
	slices.SortFunc(ranges, func(a, b statusRange) int { return cmp.Compare(a.lo, b.lo) })
	merged := ranges[:1]
	for _, r := range ranges[1:] {
		if last := &merged[len(merged)-1]; r.lo <= last.hi+1 {
			last.hi = max(last.hi, r.hi)
		} else {
			merged = append(merged, r)
		}
	}
	texts := make([]string, len(merged))
	for n, r := range merged {
		if texts[n] = strconv.Itoa(r.lo); r.hi > r.lo {
			texts[n] = fmt.Sprintf("%d-%d", r.lo, r.hi)
		}
	}
	return Statuses(strings.Join(texts, ","))
}

// parseStatusRange parses "200", "200-299", "2xx" or "2xx-3xx".
func parseStatusRange(s string) (r statusRange, ok bool) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	lo, ok1 := parseStatus(strings.TrimSpace(first), '0')
	hi, ok2 := parseStatus(strings.TrimSpace(last), '9')
	return statusRange{lo, hi}, ok1 && ok2 && lo <= hi
}

// parseStatus parses a status, or a class such as 2xx with fill in place of each x.
func parseStatus(s string, fill byte) (int, bool) {
	if len(s) != 3 || s[0] < '1' || s[0] > '5' {
		return 0, false
	}
	if strings.EqualFold(s[1:], "xx") {
		s = s[:1] + string([]byte{fill, fill})
	}
	status, err := strconv.Atoi(s)
	return status, err == nil
}

// looksLikeStatuses reports whether s is a mistaken list of statuses rather than text of the body:
// ">=200", "200|204", "200 OK", "399-200", "20".
func looksLikeStatuses(s string) bool {
	const digits, signs = "0123456789", "xX*,;|/&+<>=!~^-–—…[](){} \t"
	words := strings.NewReplacer("OK", "", "ok", "", "or", "", "and", "", "to", "", "..", "").Replace(s)
	if strings.Trim(words, digits+signs) != "" {
		return false
	}
	if strings.Trim(s, digits+"xX-") == "" && strings.ContainsAny(s[:1], digits) {
		return true // nothing but a number, however wrong
	}
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return !strings.ContainsRune(digits+"xX*", r) }) {
		if len(word) == 3 && word[0] >= '0' && word[0] <= '9' {
			return true
		}
	}
	return false
}
