package hipache

import (
	"strconv"
	"strings"
)

// Announcement is the message that a proxy publishes on DeadChannel when it marks a backend.
type Announcement struct {
	Host     string // as requested, in the case of the lookup; under a wildcard the name below it
	URL      string // Hipache writes scheme and host in lower case and adds the path "/"; PlanB writes the entry unchanged
	Position int    // in the list that the proxy had read, which may have changed since
	Len      int    // number of URLs in that list
}

// ParseAnnouncement parses the payload of a message. It reports false for any other payload,
// because every client of Redis may publish on the channel. A URL may contain semicolons; a
// host may not.
func ParseAnnouncement(payload string) (Announcement, bool) {
	rest, size, ok1 := cutLast(payload)
	rest, position, ok2 := cutLast(rest)
	host, url, ok3 := strings.Cut(rest, ";")
	if !ok1 || !ok2 || !ok3 || url == "" {
		return Announcement{}, false
	}
	return Announcement{Host: host, URL: url, Position: position, Len: size}, true
}

// cutLast cuts off the last field, which must be a number of at least 0.
func cutLast(s string) (rest string, n int, ok bool) {
	i := strings.LastIndexByte(s, ';')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(s[i+1:])
	return s[:i], n, err == nil && n >= 0
}

// String returns the payload: "host;url;position;len".
func (a Announcement) String() string {
	return a.Host + ";" + a.URL + ";" + strconv.Itoa(a.Position) + ";" + strconv.Itoa(a.Len)
}
