package app

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Instance is one running copy of a service.
//
// This is the list of an instance's fields, and tests compare everything else with it: the record
// in Redis, the replica's compact form, the view in the API, and the comparison of a registration
// with the registered instance. The tag from:"registration" marks the fields that a registration
// sets. record:"-", replica:"-" and view:"-" mark fields that a form leaves out.
type Instance struct {
	// Rev counts writes. A store refuses a write that was decided on another revision, so one of
	// two concurrent writers fails. 0 means never written.
	Rev int64

	ID       string
	Service  string
	Address  string   `from:"registration"` // canonical host:port, see parseAddress
	Hosts    []string `from:"registration"` // the vhosts it serves, normalized, sorted, without duplicates
	Weight   int      `from:"registration"` // its number of backends in each frontend, 1 to MaxWeight
	FailOpen bool     `from:"registration"` // as the last routable instance of a vhost it stays listed in any state
	Boot     string   `from:"registration"` // the container's nonce of this start; may be empty
	Replaces string   `from:"registration"` // id of the instance that it replaces once it is healthy; may be empty
	// ReplaceOver says that the replacement is done, or was reported as failed. Register does not
	// repeat it.
	ReplaceOver bool              `view:"-"`
	Tags        []string          `from:"registration"`
	Meta        map[string]string `from:"registration"`
	Check       Check             `from:"registration"`
	Override    Override          // of an operator
	Claims      Claims            `view:"-"` // of other claimants on its id and address
	Unknown     string            `view:"-"` // JSON: fields that a newer version wrote and the store keeps; may be empty

	State        State
	Streak       int           `view:"-"` // consecutive results that disagree with State
	StreakAt     time.Time     `view:"-"` // when the first result of Streak, or of the streak that led to State, began
	Falls        int           // how often it became unhealthy without CalmAfter of health in between; see Wait
	Last         Result        `view:"-"` // the result that last changed State, Streak or the reason
	RegisteredAt time.Time     // first registration under this id
	ChangedAt    time.Time     // when State last changed
	DrainPeriod  time.Duration `view:"-"`                        // of a draining instance
	AssertedAt   time.Time     `view:"-" record:"-" replica:"-"` // its last report or registration; a key of its own in Redis
}

// An Override replaces a part of the registration, by an operator and until a time. The zero value
// overrides nothing.
type Override struct {
	Maintenance bool      // no traffic and no discovery, whatever the state
	Weight      int       // replaces the instance's weight; 0: no other weight
	Until       time.Time // when it expires
}

// Equal reports whether two overrides are equal.
func (o Override) Equal(other Override) bool {
	return o.Maintenance == other.Maintenance && o.Weight == other.Weight && o.Until.Equal(other.Until)
}

// Understood reports whether this version knows every field and value of the instance. A newer
// version may have written others. This version neither probes such an instance nor changes its
// state: it does not know what a failure means for it.
func (i Instance) Understood() bool {
	return i.Unknown == "" && i.Check.Kind.known() && i.State.known()
}

// Routable reports whether the instance gets traffic, and whether service discovery returns it.
func (i Instance) Routable() bool { return i.State == Healthy && !i.Override.Maintenance }

// Slots returns the number of the instance's backends in each of its frontends: its weight while it
// is routable, else 0.
func (i Instance) Slots() int {
	switch {
	case !i.Routable():
		return 0
	case i.Override.Weight > 0:
		return i.Override.Weight
	}
	return i.Weight
}

// MayStay reports whether the instance stays listed as the last routable one of a vhost. An
// instance that has not passed since its registration does not: it was not listed. An instance in
// maintenance does not: an operator took it out.
func (i Instance) MayStay() bool {
	return i.FailOpen && i.State != Starting && i.State != Failed && !i.Override.Maintenance
}

// URL returns the backend of the instance as frontends contain it, http://host:port.
func (i Instance) URL() string { return "http://" + i.Address }

// Target returns the host:port that probes connect to.
func (i Instance) Target() string {
	if i.Check.Port == 0 {
		return i.Address
	}
	host, _ := splitAddress(i.Address)
	return net.JoinHostPort(host, strconv.Itoa(i.Check.Port))
}

// latest returns the later one of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// parseAddress returns the canonical form of host:port: a lower-case name or an IP
// address (IPv6 in brackets) and a port from 1 to 65535.
func parseAddress(address string) (string, error) {
	const want = "give host:port, such as 10.0.0.7:8080"
	if strings.Contains(address, "://") {
		return "", Invalid("address", "has a scheme", "backends speak plain http; "+want)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", Invalid("address", "is not host:port", want)
	}
	n, err := parsePort(port)
	if err != nil {
		return "", Invalid("address", "has a port that is not a number from 1 to 65535", want)
	}
	host, err = canonicalHost(host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

// canonicalHost returns a host as it is stored: an IP address in its shortest form, or a lower-case
// name. It refuses names that some resolvers read as numbers (decimal, octal or hexadecimal
// addresses). A name may begin with a digit: a container's host name is the beginning of its
// hexadecimal id.
func canonicalHost(host string) (string, error) {
	const want = "give an IP address or a host name"
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String(), validIP(ip)
	}
	host = lowerASCII(host)
	if !ValidHostName(host) {
		return "", Invalid("address", "has a host that is neither an IP address nor a name", want)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == "" {
		return "", Invalid("address", "has a host that looks like a number but is not an IP address", want)
	}
	return host, nil
}

// validIP refuses an address that names no single host.
func validIP(ip netip.Addr) error {
	switch {
	case ip.Zone() != "":
		return Invalid("address", "has an IPv6 zone", "an address with a zone means something else on every machine")
	case ip.Unmap().IsUnspecified():
		return Invalid("address", "is the unspecified address", "give the address that others reach it at")
	case ip.Unmap().IsMulticast():
		return Invalid("address", "is a multicast address", "give an IP address or a host name")
	}
	return nil
}

// splitAddress splits a canonical address.
func splitAddress(address string) (host, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic("app: not a canonical address: " + address) // Registration.Instance is the only way in
	}
	return host, port
}

// lowerASCII returns s with ASCII letters in lower case. strings.ToLower would also turn the Kelvin
// sign into a k, and one name into another.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// ValidHostName reports whether s is a lower-case DNS name: labels of letters, digits, hyphens and
// underscores, of 1 to 63 bytes each and 253 bytes in all, without a trailing dot.
func ValidHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
