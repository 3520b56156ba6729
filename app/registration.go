package app

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a registration.
const (
	MaxHosts  = 20
	MaxKeep   = 100 // instances that Registry.DrainInTurn keeps
	MaxWeight = 100

	maxExpect = 4 << 10 // bytes of a body that a probe reads
)

// Registration is the input of Register. A field with its zero value is not given.
type Registration struct {
	Service      string
	ID           string
	Boot         string
	Replaces     string
	Address      string // host:port, or a host if Port is given
	Port         int
	Caller       string // the IP address the call came from
	Rules        Rules  // of the process that handles the call
	Hosts        []string
	Health       string
	HealthHost   string   // health_host: the Host header of an http check; may have a port
	HealthMethod string   // health_method: GET or HEAD
	HealthHeader []string // health_header: "Name: value" of an http check; secret
	Expect       []string // at most one list of statuses ("200-299,401") and one text of the body

	TLSSkipVerify *bool
	TLSServerName string

	Weight   *int
	FailOpen *bool
	Tags     []string
	Meta     map[string]string

	Interval, Timeout, Grace, Forget *time.Duration
	Rise, Fall                       *int

	// Declared says that another party registers the instance, as in a batch. The registration does
	// not prove that the instance is alive.
	Declared bool
	// Awaited says that the caller waits for the outcome. Then a registration of the same start
	// requests the replacement of another instance again.
	Awaited bool
}

// Rules are the configured limits of registrations. The zero value is the default.
type Rules struct {
	MaxHosts int                   // vhosts of an instance; 0: MaxHosts
	Allow    func(netip.Addr) bool // reports whether Rollcall may call an address; nil: every address
}

// AddressSource is the source of an instance's address.
type AddressSource string

// The sources of an address.
const (
	AddressGiven      AddressSource = "given"
	AddressFromCaller AddressSource = "caller"
)

// Instance validates the registration and returns the instance that it describes, in no state
// yet. Its errors are FieldErrors.
func (r Registration) Instance() (Instance, AddressSource, error) {
	if err := ValidService(r.Service); err != nil {
		return Instance{}, "", err
	}
	address, source, err := r.address()
	if err != nil {
		return Instance{}, "", err
	}
	if err := r.Rules.permit(address); err != nil {
		return Instance{}, "", err
	}
	i, err := r.instanceAt(address)
	if err != nil {
		return Instance{}, "", err
	}
	return i, source, nil
}

// instanceAt returns the instance with its canonical address.
func (r Registration) instanceAt(address string) (i Instance, err error) {
	i = Instance{
		ID: r.ID, Service: r.Service, Address: address,
		Weight: valueOr(r.Weight, 1), FailOpen: valueOr(r.FailOpen, true), Boot: r.Boot, Replaces: r.Replaces,
		Tags: slices.Clone(r.Tags), Meta: maps.Clone(r.Meta),
	}
	if i.ID == "" {
		i.ID = defaultID(i.Service, i.Address)
	}
	if err := r.validText(); err != nil {
		return i, err
	}
	if i.Check, err = r.check(address); err != nil {
		return i, err
	}
	if i.Hosts, err = r.hosts(); err != nil {
		return i, err
	}
	return i, i.validNames()
}

// valueOr returns the value that p points to, or a default if p is nil.
func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// validNames checks the weight of an instance, its id and the id that it replaces.
func (i Instance) validNames() error {
	if i.Weight < 1 || i.Weight > MaxWeight {
		return Invalid("weight", fmt.Sprintf("is %d", i.Weight), fmt.Sprintf("give a number from 1 to %d", MaxWeight))
	}
	if err := ValidID("id", i.ID); err != nil || i.Replaces == "" {
		return err
	}
	if i.Replaces == i.ID {
		return Invalid("replaces", "is the instance's own id", "give the id of the instance to take over from")
	}
	return ValidID("replaces", i.Replaces)
}

// address returns the canonical address of the instance, from the fields or from the address of the
// caller.
func (r Registration) address() (string, AddressSource, error) {
	if !within(r.Port, 0, 65535) {
		return "", "", Invalid("port", fmt.Sprintf("is %d", r.Port), "give a number from 1 to 65535")
	}
	switch {
	case r.Address != "":
		a, err := r.givenAddress()
		return a, AddressGiven, err
	case r.Port == 0:
		return "", "", Invalid("port", "is missing", "give port, or address as host:port")
	case r.Caller == "":
		return "", "", Invalid("address", "is missing, and the call did not come over IP", "give address as host:port")
	}
	a, err := parseAddress(net.JoinHostPort(r.Caller, strconv.Itoa(r.Port)))
	return a, AddressFromCaller, err
}

// givenAddress returns the address that the registration names, as host:port, or as a host beside the port.
func (r Registration) givenAddress() (string, error) {
	_, own, err := net.SplitHostPort(r.Address)
	port := strconv.Itoa(r.Port)
	if r.Port != 0 && err != nil {
		return parseAddress(net.JoinHostPort(strings.Trim(r.Address, "[]"), port))
	}
	a, err := parseAddress(r.Address)
	if err == nil && r.Port != 0 && own != port {
		return "", Invalid("port", "is "+port+", but address names port "+own, "give the port once")
	}
	return a, err
}

// permit refuses an IP address that Rollcall must not call. The addresses of a name are
// checked with each connection.
func (r Rules) permit(address string) error {
	host, _ := splitAddress(address)
	if addr, err := netip.ParseAddr(host); err == nil && r.Allow != nil && !r.Allow(addr) {
		return Invalid("address", "is "+host+", which must not be called", "give one in a network of ROLLCALL_PROBE_NETWORKS: without it those are the private ones, and loopback where Rollcall listens on that only")
	}
	return nil
}

// check returns the check that the registration describes.
func (r Registration) check(address string) (Check, error) {
	c, err := parseHealth(r.Health, address)
	if err != nil {
		return Check{}, err
	}
	r.setTiming(&c)
	if err := r.refuseMisplaced(c); err != nil {
		return Check{}, err
	}
	if err := r.expect(&c); err != nil {
		return Check{}, err
	}
	if err := r.request(&c); err != nil {
		return Check{}, err
	}
	if err := r.tls(&c); err != nil {
		return Check{}, err
	}
	return c, c.validate()
}

// setTiming sets the given durations and thresholds of a check. It shortens the default timeout to a given interval.
func (r Registration) setTiming(c *Check) {
	for _, d := range []struct {
		given *time.Duration
		to    *time.Duration
	}{{r.Interval, &c.Interval}, {r.Timeout, &c.Timeout}, {r.Grace, &c.Grace}, {r.Forget, &c.Forget}} {
		*d.to = valueOr(d.given, *d.to).Truncate(time.Millisecond) // more is not stored
	}
	if r.Timeout == nil && r.Interval != nil && c.Interval >= MinInterval {
		c.Timeout = min(c.Timeout, c.Interval)
	}
	c.Rise, c.Fall = valueOr(r.Rise, c.Rise), valueOr(r.Fall, c.Fall)
}

// refuseMisplaced refuses fields of an http check, and of one over TLS, in a registration with another check.
func (r Registration) refuseMisplaced(c Check) error {
	const path, tls = "goes with an http check only; leave it out, or give health as a path", "goes with a check over TLS only; leave it out, or give health as https:/path or grpcs"
	for _, field := range []struct {
		name            string
		given, possible bool
		refusal         string
	}{
		{"expect", len(r.Expect) > 0, c.Kind == HTTP, path},
		{"health_host", r.HealthHost != "", c.Kind == HTTP, path},
		{"health_method", r.HealthMethod != "", c.Kind == HTTP, path},
		{"health_header", len(r.HealthHeader) > 0, c.Kind == HTTP, path},
		{"tls_skip_verify", valueOr(r.TLSSkipVerify, false), c.TLS, tls},
		{"tls_server_name", r.TLSServerName != "", c.TLS, tls},
	} {
		if field.given && !field.possible {
			problem, want, _ := strings.Cut(field.refusal, "; ")
			return Invalid(field.name, problem, want)
		}
	}
	return nil
}

// expect sets the expectation of an http check: statuses, text of the body, or one of each.
func (r Registration) expect(c *Check) error {
	var given bool // the statuses
	for _, e := range r.Expect {
		statuses, isStatuses, err := parseExpect(e)
		switch {
		case err != nil:
			return err
		case isStatuses && !given:
			c.Statuses, given = statuses, true
		case !isStatuses && c.Body == "":
			c.Body = e
		default:
			return Invalid("expect", "is given twice", wantExpect)
		}
	}
	return nil
}

// request sets the Host header and the method of an http check.
func (r Registration) request(c *Check) (err error) {
	if c.Host, err = parseHealthHost(r.HealthHost); err != nil {
		return err
	}
	if c.Method, err = parseHealthMethod(r.HealthMethod); err != nil {
		return err
	}
	if c.Headers, err = parseHealthHeaders(r.HealthHeader); err != nil {
		return err
	}
	if c.Method == http.MethodHead && c.Body != "" {
		return Invalid("health_method", "is HEAD, and its answers have no body", "give GET, or leave the text out of expect")
	}
	return nil
}

// parseHealthHeaders returns the headers as Check.Headers has them.
func parseHealthHeaders(given []string) (string, error) {
	if len(given) > MaxHeaders {
		return "", Invalid("health_header", fmt.Sprintf("is given %d times", len(given)), fmt.Sprintf("give at most %d", MaxHeaders))
	}
	values := map[string]string{}
	for _, line := range given {
		if strings.HasPrefix(strings.ToLower(line), "host:") {
			return "", Invalid("health_header", "is Host", "give health_host")
		}
		name, value, err := ParseHeader("health_header", line)
		switch {
		case err != nil:
			return "", err
		case values[name] != "":
			return "", Invalid("health_header", name+" is given twice", "give each header once")
		}
		values[name] = value
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		lines.WriteString(name + ": " + values[name] + headerEnd)
	}
	return lines.String(), nil
}

// parseHealthMethod returns HEAD, or "" for GET.
func parseHealthMethod(given string) (string, error) {
	switch strings.ToUpper(given) {
	case "", http.MethodGet:
		return "", nil
	case http.MethodHead:
		return http.MethodHead, nil
	}
	return "", Invalid("health_method", fmt.Sprintf("is %.80q", given), "give GET or HEAD")
}

// tls sets how a probe verifies the certificate of the instance.
func (r Registration) tls(c *Check) error {
	c.SkipVerify = valueOr(r.TLSSkipVerify, false)
	if r.TLSServerName == "" {
		return nil
	}
	name, err := canonicalHost(r.TLSServerName)
	if err != nil {
		return Invalid("tls_server_name", fmt.Sprintf("is %.80q", r.TLSServerName), "give a name of the certificate, such as shop.example")
	}
	c.ServerName = name
	return nil
}

// parseHealthHost returns a Host header in canonical form.
func parseHealthHost(given string) (string, error) {
	if given == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(given)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(given, "["), "]"), ""
	} else if _, err := parsePort(port); err != nil {
		return "", invalidHealthHost(given)
	}
	if host, err = canonicalHost(host); err != nil {
		return "", invalidHealthHost(given)
	}
	if port != "" {
		return net.JoinHostPort(host, port), nil
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]", nil
	}
	return host, nil
}

func invalidHealthHost(given string) error {
	return Invalid("health_host", fmt.Sprintf("is %.80q", given), "give the host name that the application answers to, such as shop.example or shop.example:8080")
}

const wantExpect = "give statuses (200, 200,204, 200-299,401 or 2xx) and text of the body, each at most once"

// parseExpect parses one expectation. Without statuses, it is text of the body.
func parseExpect(e string) (statuses Statuses, isStatuses bool, err error) {
	statuses, isStatuses = parseStatuses(e)
	switch {
	case e == "":
		err = Invalid("expect", "is empty", wantExpect)
	case len(e) > maxExpect:
		err = Invalid("expect", fmt.Sprintf("is longer than the %d bytes of the body that are looked at", maxExpect), "give a shorter text")
	case !utf8.ValidString(e):
		err = notText("expect")
	case !isStatuses && looksLikeStatuses(e):
		err = Invalid("expect", fmt.Sprintf("is %.80q, which is not a list of statuses", e),
			"give statuses from 100 to 599, ranges and classes, separated by commas: 200,204 or 200-299,401 or 2xx,3xx")
	}
	return statuses, isStatuses, err
}

// hosts returns the vhosts, normalized and sorted.
func (r Registration) hosts() ([]string, error) {
	if limit := cmp.Or(r.Rules.MaxHosts, MaxHosts); len(r.Hosts) > limit {
		return nil, Invalid("host", fmt.Sprintf("is given %d times", len(r.Hosts)), fmt.Sprintf("an instance serves at most %d", limit))
	}
	var hosts []string
	for _, h := range r.Hosts {
		n, err := NormalizeHost(h)
		if err != nil {
			return nil, err
		}
		if slices.Contains(hosts, n) {
			return nil, Invalid("host", fmt.Sprintf("names %q twice", n), "name every vhost once")
		}
		hosts = append(hosts, n)
	}
	slices.Sort(hosts)
	return hosts, nil
}

// validText refuses text that changes when it is stored as JSON. Such an instance would differ from
// its record at each registration.
func (r Registration) validText() error {
	if !utf8.ValidString(r.Boot) {
		return notText("boot")
	}
	if slices.ContainsFunc(r.Tags, notUTF8) {
		return notText("tag")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Meta)) {
		if !utf8.ValidString(name) {
			return notText("meta")
		}
		if !utf8.ValidString(r.Meta[name]) {
			return notText("meta." + name)
		}
	}
	return nil
}

func notUTF8(s string) bool { return !utf8.ValidString(s) }

func notText(field string) error { return Invalid(field, "is not text in UTF-8", "give it in UTF-8") }

// ValidServices returns a FieldError unless each of the names is the name of a service.
func ValidServices(names []string) error {
	for _, name := range names {
		if err := ValidService(name); err != nil {
			return err
		}
	}
	return nil
}

// ValidService returns a FieldError unless s is the name of a service.
func ValidService(s string) error {
	const want = "give 1 to 63 lower-case letters, digits, hyphens, dots or underscores, beginning with a letter or digit"
	if s == "" {
		return Invalid("service", "is missing", want)
	}
	if len(s) > 63 || !validWord(s) || strings.ToLower(s) != s {
		return Invalid("service", fmt.Sprintf("is %.80q", s), want)
	}
	return nil
}

// ValidID returns a FieldError about a field unless s is an id.
func ValidID(field, s string) error {
	if len(s) > 128 || !validWord(s) {
		return Invalid(field, fmt.Sprintf("is %.80q", s),
			"give 1 to 128 letters, digits, hyphens, dots or underscores, beginning with a letter or digit")
	}
	return nil
}

const alphanumerics = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// validWord reports whether s is an ASCII letter or digit, followed by letters, digits, hyphens,
// dots and underscores.
func validWord(s string) bool {
	return s != "" && strings.IndexByte(alphanumerics, s[0]) >= 0 && strings.Trim(s, alphanumerics+"-._") == ""
}

// defaultID derives an id from a service and an address, so that a container that registers again
// is the same instance.
func defaultID(service, address string) string {
	host, port := splitAddress(address)
	id := service + "-" + strings.ReplaceAll(host, ":", "-") + "-" + port
	if len(id) > 128 { // neither the beginning nor the end of a long host is unique
		h := fnv.New64a()
		_, _ = h.Write([]byte(host))
		id = fmt.Sprintf("%s-x%016x-%s", service, h.Sum64(), port)
	}
	return id
}
