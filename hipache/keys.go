package hipache

import "strings"

// DeadChannel is the channel on which proxies announce a backend that they have marked; see
// Announcement.
const DeadChannel = "dead"

// PingKey contains the time of an active health checker's last sweep; see Ping.
const PingKey = "hchecker_ping"

// Keys builds the names of the keys. The zero value has no prefix.
type Keys struct {
	Prefix string // literal text before every key, as in the proxy's redis://host#prefix
}

// Frontend returns the key of a vhost's list. The vhost is a name, "*.name" or "*".
func (k Keys) Frontend(host string) string { return k.Prefix + "frontend:" + host }

// Dead returns the key of a requested host's dead set.
func (k Keys) Dead(host string) string { return k.Prefix + "dead:" + host }

// Wildcard reports whether the vhost serves more names than its own.
func Wildcard(host string) bool { return host == "*" || strings.HasPrefix(host, "*.") }

// hostLabels is the number of trailing labels of a requested name from which Hipache builds
// wildcards.
const hostLabels = 6

// RequestedHost returns the name that Hipache looks up for a Host header: the part before the
// first colon, in lower case if and only if there is a colon.
func RequestedHost(header string) string {
	if host, _, found := strings.Cut(header, ":"); found {
		return strings.ToLower(host)
	}
	return header
}

// Findable reports whether a requested host can have a frontend. No name has more than 255
// bytes, and a semicolon would separate fields of an Announcement.
func Findable(host string) bool {
	return host != "" && len(host) <= 255 && !strings.Contains(host, ";")
}

// Lookup lists the vhosts that can serve a requested host, first match first: the host
// itself, its wildcards from the longest to the shortest, the catch-all.
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
