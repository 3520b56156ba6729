package app

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind is how Rollcall determines the health of an instance.
type Kind string

// The kinds of check. Rollcall does not probe Heartbeat and None: an instance with Heartbeat
// reports by itself, one with None is healthy while it is registered.
const (
	HTTP      Kind = "http"
	TCP       Kind = "tcp"
	GRPC      Kind = "grpc"
	Memcached Kind = "memcached"
	Redis     Kind = "redis"
	Heartbeat Kind = "heartbeat"
	None      Kind = "none"
)

func (k Kind) known() bool {
	switch k {
	case HTTP, TCP, GRPC, Memcached, Redis, Heartbeat, None:
		return true
	}
	return false
}

// Check says how Rollcall determines the health of an instance, and when results change its state.
// Checks are comparable with ==.
type Check struct {
	Kind     Kind
	Port     int      // the port probed; 0 means the instance's own
	Path     string   // HTTP: path and query, begins with "/"
	Statuses Statuses // HTTP: the statuses that pass
	Body     string   // HTTP: text the first 4 KiB of the body must contain; empty means any
	Host     string   // HTTP: the Host header; empty: the first vhost without a wildcard, else the probed address
	Method   string   // HTTP: HEAD; empty means GET
	Headers  string   `view:"-"` // HTTP: further headers, "Name: value\r\n" each, sorted; secret, see HeaderLines

	TLS        bool   // the probe speaks TLS
	SkipVerify bool   // TLS: every certificate passes
	ServerName string // TLS: the name that the certificate must have; empty: a name of the instance

	GRPCService string // GRPC: the service in the health request; empty: the whole server

	Interval time.Duration // between probes; for Heartbeat, between reports
	Timeout  time.Duration // one probe's limit; for Heartbeat, how late a report may be
	Rise     int           // consecutive passes that make an instance healthy
	Fall     int           // consecutive failures that make it unhealthy
	Grace    time.Duration // time to become healthy; then a starting instance is failed
	Forget   time.Duration // time unhealthy or failed until removal
}

// Limits on the timing of a check.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Hour
	MaxTimeout  = 30 * time.Second
	MaxStreak   = 100 // of Rise and Fall
	MaxGrace    = 24 * time.Hour
	MinForget   = time.Second
	MaxForget   = 30 * 24 * time.Hour
)

// DefaultCheck returns the check of a kind with the default timing.
func DefaultCheck(kind Kind) Check {
	c := Check{
		Kind:     kind,
		Interval: 2 * time.Second,
		Timeout:  time.Second,
		Rise:     2,
		Fall:     2,
		Grace:    time.Minute,
		Forget:   10 * time.Minute,
	}
	switch kind {
	case HTTP:
		c.Path, c.Statuses = "/", "200-399"
	case Heartbeat:
		c.Interval, c.Rise = 5*time.Second, 1
	case TCP, GRPC, Memcached, Redis, None:
	}
	return c
}

// Probed reports whether Rollcall probes instances with this check.
func (c Check) Probed() bool { return c.Kind != Heartbeat && c.Kind != None }

// HeaderLines returns the further headers of a probe, "Name: value" each. Their values are secret.
func (c Check) HeaderLines() []string {
	if c.Headers == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(c.Headers, headerEnd), headerEnd)
}

const headerEnd = "\r\n"

// target returns the fields that determine how a probe asks, without the timing and without the headers: an instance
// goes on with another token.
func (c Check) target() Check {
	c.Interval, c.Timeout, c.Rise, c.Fall, c.Grace, c.Forget, c.Headers = 0, 0, 0, 0, 0, 0, ""
	return c
}

// Lease is how long a report keeps a heartbeat instance alive: Fall intervals, plus Timeout. Other
// kinds have no lease.
func (c Check) Lease() time.Duration {
	if c.Kind != Heartbeat {
		return 0
	}
	return time.Duration(c.Fall)*c.Interval + c.Timeout
}

// validate checks the timing of the check.
func (c Check) validate() error {
	for _, f := range []struct {
		field string
		value any
		valid bool
		want  string
	}{
		{"interval", c.Interval, within(c.Interval, MinInterval, MaxInterval), "give a duration from 100ms to 1h"},
		{"timeout", c.Timeout, within(c.Timeout, 1, MaxTimeout), "give a duration from 1ms to 30s"},
		{"rise", c.Rise, within(c.Rise, 1, MaxStreak), "give a number from 1 to 100"},
		{"fall", c.Fall, within(c.Fall, 1, MaxStreak), "give a number from 1 to 100"},
		{"grace", c.Grace, within(c.Grace, 1, MaxGrace), "give a duration up to 24h"},
		{"forget", c.Forget, within(c.Forget, MinForget, MaxForget), "give a duration from 1s to 720h"},
	} {
		if !f.valid {
			return Invalid(f.field, fmt.Sprintf("is %v", f.value), f.want)
		}
	}
	return nil
}

func within[T cmp.Ordered](value, least, most T) bool { return least <= value && value <= most }

// parseHealth parses the health field of an instance at address:
//
//	/path  :8081/path  http://own-host:port/path  https:/path  https:8443/path
//	https://own-host:port/path  tcp  tcp:8081  grpc  grpc:9090  grpc:name  grpc:9090/name  grpcs
//	memcached  redis  heartbeat  none
//
// An empty field means tcp.
func parseHealth(health, address string) (Check, error) {
	switch {
	case len(health) > 512:
		return Check{}, invalidHealth("is longer than 512 characters")
	case strings.ContainsFunc(health, notVisibleASCII):
		return Check{}, invalidHealth("contains a space, a control character or a character outside ASCII")
	case strings.HasPrefix(health, "/"):
		return parseHealthPath(health, 0)
	case strings.HasPrefix(health, ":"):
		return parseHealthPort(health, health[1:])
	case strings.HasPrefix(health, "https:") && !strings.HasPrefix(health, "https://"):
		return parseHealthHTTPS(health)
	case strings.Contains(health, "://"):
		return parseHealthURL(health, address)
	}
	return parseHealthKind(health)
}

func notVisibleASCII(r rune) bool { return r <= ' ' || r > '~' }

// parseHealthHTTPS parses https:/path and https:8443/path.
func parseHealthHTTPS(health string) (c Check, err error) {
	rest := strings.TrimPrefix(health, "https:")
	if strings.HasPrefix(rest, "/") {
		c, err = parseHealthPath(rest, 0)
	} else {
		c, err = parseHealthPort(health, rest)
	}
	c.TLS = err == nil
	return c, err
}

// parseHealthPort parses the end of a health field: a port and a path.
func parseHealthPort(health, end string) (Check, error) {
	port, path, found := strings.Cut(end, "/")
	n, err := parsePort(port)
	if err != nil || !found {
		return Check{}, invalidHealth(fmt.Sprintf("is %q", health))
	}
	return parseHealthPath("/"+path, n)
}

// parseHealthKind parses a kind of check, with or without a port.
func parseHealthKind(health string) (Check, error) {
	name, port, hasPort := strings.Cut(health, ":")
	kind := cmp.Or(Kind(name), TCP)
	if hasPort && kind == GRPC || kind == grpcs {
		return parseHealthGRPC(health)
	}
	if !kind.known() || kind == HTTP { // http needs a path
		return Check{}, invalidHealth(fmt.Sprintf("is %q", health))
	}
	c := DefaultCheck(kind)
	if !hasPort {
		return c, nil
	}
	if !c.Probed() {
		return Check{}, invalidHealth(fmt.Sprintf("is %q, and %s has no port", health, name))
	}
	n, err := parsePort(port)
	if err != nil {
		return Check{}, invalidHealth(fmt.Sprintf("is %q: the port is not a number from 1 to 65535", health))
	}
	c.Port = n
	return c, nil
}

const grpcs = "grpcs"

// parseHealthGRPC parses grpcs, and grpc or grpcs with a port, a service or both. A service that begins with a digit
// needs a slash before it.
func parseHealthGRPC(health string) (Check, error) {
	name, rest, given := strings.Cut(health, ":")
	c := DefaultCheck(GRPC)
	c.TLS = name == grpcs
	if !given {
		return c, nil
	}
	port, service, both := strings.Cut(rest, "/")
	if !both && strings.Trim(port[:min(1, len(port))], "0123456789") != "" {
		port, service = "", port
	}
	if port != "" || service == "" {
		n, err := parsePort(port)
		if err != nil {
			return Check{}, invalidHealth(fmt.Sprintf("is %q: the port is not a number from 1 to 65535", health))
		}
		c.Port = n
	}
	if !validGRPCService(service) || both && service == "" {
		return Check{}, invalidHealth(fmt.Sprintf("is %q: the name of a gRPC service has letters, digits and ._-/ only", health))
	}
	c.GRPCService = service
	return c, nil
}

func validGRPCService(s string) bool { return strings.Trim(s, alphanumerics+"._-/") == "" }

func invalidHealth(problem string) error {
	return Invalid("health", problem,
		"give /path, :port/path, https:/path, https:port/path, http://own-host:port/path, tcp, tcp:port, grpc, grpc:name, grpcs, memcached, redis, heartbeat or none")
}

func parseHealthPath(path string, port int) (Check, error) {
	if strings.Contains(path, "#") {
		return Check{}, Invalid("health", "has a fragment", "leave out # and the text after it")
	}
	if _, err := url.ParseRequestURI(path); err != nil {
		return Check{}, Invalid("health", fmt.Sprintf("is %q, which is not a path", path), "give a path such as /healthz?full=1")
	}
	c := DefaultCheck(HTTP)
	c.Path, c.Port = path, port
	return c, nil
}

func parseHealthURL(health, address string) (Check, error) {
	u, err := plainURL(health)
	if err != nil {
		return Check{}, err
	}
	usual, isTLS := "80", u.Scheme == "https"
	if isTLS {
		usual = "443"
	}
	port, err := parsePort(cmp.Or(u.Port(), usual))
	if err != nil {
		return Check{}, Invalid("health", fmt.Sprintf("has the port %q", u.Port()), "give a port from 1 to 65535")
	}
	host, err := canonicalHost(u.Hostname())
	own, _ := splitAddress(address)
	if err != nil || host != own {
		return Check{}, Invalid("health", fmt.Sprintf("has the host %q", u.Hostname()),
			"a health URL is on the instance's own host, here "+own+"; give only :port/path")
	}
	c, err := parseHealthPath(u.RequestURI(), port)
	c.TLS = isTLS && err == nil
	if _, notAddress := netip.ParseAddr(host); c.TLS && notAddress != nil {
		c.ServerName = host
	}
	return c, err
}

// plainURL parses a URL of a host, a port and a path.
func plainURL(health string) (*url.URL, error) {
	u, err := url.Parse(health)
	switch {
	case err != nil, u.Host == "", u.Opaque != "":
		return nil, Invalid("health", fmt.Sprintf("is %q, which is not a URL", health), "give a path such as /healthz")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, Invalid("health", fmt.Sprintf("has the scheme %q", u.Scheme), "give http or https")
	case u.User != nil:
		return nil, Invalid("health", "has a user name or password", "leave them out")
	case u.Fragment != "":
		return nil, Invalid("health", "has a fragment", "leave out # and the text after it")
	}
	return u, nil
}

func parsePort(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 || s != strconv.Itoa(n) {
		return 0, ErrInvalid
	}
	return n, nil
}
