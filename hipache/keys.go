package hipache

import "strings"

// DeadChannel is where proxies announce a backend they have marked; see Announcement.
const DeadChannel = "dead"

// PingKey holds the time of the last sweep of an active health checker; see Beacon.
const PingKey = "hchecker_ping"

// Keys builds the names of the keys. The zero value has no prefix.
type Keys struct {
	Prefix string // literal text before every key, as in the proxy's redis://host#prefix
}

// Frontend is the list of a vhost: a name, "*.name" or "*".
func (k Keys) Frontend(host string) string { return k.Prefix + "frontend:" + host }

// Dead is the dead set of a requested host.
func (k Keys) Dead(host string) string { return k.Prefix + "dead:" + host }

// Wildcard reports whether the vhost stands for more names than its own.
func Wildcard(host string) bool { return host == "*" || strings.HasPrefix(host, "*.") }

// hostLabels is how many trailing labels of a requested name Hipache looks at when
// it builds wildcards.
const hostLabels = 6

// RequestedHost is what Hipache looks up for a Host header: what stands before the
// first colon, in lower case if and only if there is a colon.
func RequestedHost(header string) string {
	if host, _, found := strings.Cut(header, ":"); found {
		return strings.ToLower(host)
	}
	return header
}

// Findable reports whether anybody can be found for a requested host: no name has more
// than 255 bytes, and a semicolon would part the fields of an Announcement.
func Findable(host string) bool {
	return host != "" && len(host) <= 255 && !strings.Contains(host, ";")
}

// Lookup lists the vhosts that can answer for a requested host, first match first:
// the host itself, its wildcards from the longest to the shortest, the catch-all.
func Lookup(host string) []string {
	names := []string{host}
	labels := strings.Split(host, ".")
	if len(labels) > hostLabels {
		labels = labels[len(labels)-hostLabels:]
	}
	for len(labels) > 1 {
		labels = labels[1:]
		names = append(names, "*."+strings.Join(labels, "."))
	}
	return append(names, "*")
}
