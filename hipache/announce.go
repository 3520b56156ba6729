package hipache

import (
	"strconv"
	"strings"
)

// Announcement is what a proxy says on DeadChannel when it marks a backend.
type Announcement struct {
	Host string // as requested: under a wildcard the name below it, in the case that was looked up
	URL  string // Hipache writes scheme and host in lower case and adds the path "/"; PlanB writes the entry as it is
	Slot int    // position in the list the proxy had read, which may have changed since
	Len  int    // number of URLs in that list
}

// ParseAnnouncement reads the payload of a message. Anybody may write to the
// channel, so what is no announcement is reported as such and no error. A URL may
// hold semicolons; a host may not.
func ParseAnnouncement(payload string) (Announcement, bool) {
	rest, size, ok1 := cutLast(payload)
	rest, slot, ok2 := cutLast(rest)
	host, url, ok3 := strings.Cut(rest, ";")
	if !ok1 || !ok2 || !ok3 || url == "" {
		return Announcement{}, false
	}
	return Announcement{Host: host, URL: url, Slot: slot, Len: size}, true
}

// cutLast takes the last field off, which must be a number that is not negative.
func cutLast(s string) (rest string, n int, ok bool) {
	i := strings.LastIndexByte(s, ';')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(s[i+1:])
	return s[:i], n, err == nil && n >= 0
}

// String is the payload: "host;url;slot;len".
func (a Announcement) String() string {
	return a.Host + ";" + a.URL + ";" + strconv.Itoa(a.Slot) + ";" + strconv.Itoa(a.Len)
}
