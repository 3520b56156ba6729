package boot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"rollcall/app/history"
)

// Config is the configuration, read from the environment. The table in docs/configuration.md is generated from its
// fields.
type Config struct {
	Port              int            `env:"PORT" envDefault:"8080" doc:"port of the API; 0: any free one"`
	Bind              netip.Addr     `env:"ROLLCALL_BIND" envDefault:"127.0.0.1" doc:"address that API and edge listen on"`
	RedisURL          string         `env:"REDIS_URL" doc:"redis://, rediss://, unix:// or redis+sentinel://host1,host2/primary; without it dev and serve bring an embedded one"`
	EdgePort          int            `env:"ROLLCALL_EDGE_PORT" envDefault:"8000" doc:"port of the edge; 0: any free one; without it, rollcall edge listens on PORT if PORT is set"`
	EdgeConnect       time.Duration  `env:"ROLLCALL_EDGE_CONNECT_TIMEOUT" envDefault:"2s" doc:"how long the edge waits for a connection to a backend; HAProxy's timeout connect"`
	EdgeTimeout       time.Duration  `env:"ROLLCALL_EDGE_TIMEOUT" envDefault:"6m" doc:"time without a byte after which the edge ends a request; HAProxy's timeout client and timeout server"`
	EmbeddedRedisPort int            `env:"ROLLCALL_EMBEDDED_REDIS_PORT" envDefault:"6390" doc:"port of the embedded Redis; 0: any free one"`
	MetricsPort       *int           `env:"ROLLCALL_METRICS_PORT" doc:"port of /metrics and /livez in processes without the API; 0: any free one; without it there is none"`
	DNSPort           *int           `env:"ROLLCALL_DNS_PORT" doc:"port of DNS, over UDP and TCP; 0: any free one; without it, serve and dev answer no DNS, and rollcall dns listens on 8053"`
	DNSZone           string         `env:"ROLLCALL_DNS_ZONE" envDefault:"rollcall" doc:"zone of the names that DNS answers, as in web.service.rollcall"`
	DNSTTL            time.Duration  `env:"ROLLCALL_DNS_TTL" envDefault:"1s" doc:"how long clients may cache a DNS answer; whole seconds"`
	Prefix            string         `env:"ROLLCALL_PREFIX" envDefault:"rollcall:" doc:"prefix of Rollcall's own keys"`
	HipachePrefix     string         `env:"ROLLCALL_HIPACHE_PREFIX" doc:"prefix of the proxy's keys, as in its redis://host#prefix"`
	Settle            time.Duration  `env:"ROLLCALL_SETTLE" envDefault:"5s" doc:"how long a marked backend stays in its list"`
	DrainPeriod       time.Duration  `env:"ROLLCALL_DRAIN_HOLD" envDefault:"5s" doc:"how long a drained instance goes on answering"`
	AdminToken        string         `env:"ROLLCALL_ADMIN_TOKEN" doc:"token with scope admin, at least 16 characters; with it, every call needs a token"`
	ProbeNetworks     []netip.Prefix `env:"ROLLCALL_PROBE_NETWORKS" doc:"networks that may be registered and probed, comma-separated; by default the private ones, and loopback if ROLLCALL_BIND is loopback"`
	WebhookNetworks   []netip.Prefix `env:"ROLLCALL_WEBHOOK_NETWORKS" doc:"networks that webhooks may call; by default all, and loopback only if ROLLCALL_BIND is loopback"`
	RegisterRate      int            `env:"ROLLCALL_REGISTER_RATE" envDefault:"1000" doc:"registrations a second of one token, or of one address where none is required, at one process; bursts are twice that; 0: any number"`
	MaxInstances      int            `env:"ROLLCALL_MAX_INSTANCES" envDefault:"20000" doc:"instances of a service; 0: any number"`
	MaxBackends       int            `env:"ROLLCALL_MAX_BACKENDS" envDefault:"4000" doc:"backends of a vhost, see docs/scaling.md; 0: any number"`
	MaxHosts          int            `env:"ROLLCALL_MAX_HOSTS" envDefault:"20" doc:"vhosts of an instance"`
	MaxBody           int64          `env:"ROLLCALL_MAX_BODY" envDefault:"262144" doc:"bytes of a request's body"`
	TrustedProxies    []netip.Prefix `env:"ROLLCALL_TRUSTED_PROXIES" doc:"networks of trusted proxies, comma-separated: their X-Forwarded-For (or else Forwarded) names the client; a header without an address is 422"`
	HcheckerPing      bool           `env:"ROLLCALL_HCHECKER_PING" envDefault:"false" doc:"tell Hipache that health is checked, so that it stops marking backends itself"`
	History           history.Scale  // buckets of the statistics, the same in all processes; zero: history.Default
	LogLevel          string         `env:"ROLLCALL_LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`
}

// LoadEdge is Load for a process that is only an edge. Without ROLLCALL_EDGE_PORT, such a process listens on PORT, because a
// process manager gives each process a PORT of its own.
func LoadEdge(environ []string) (Config, error) {
	c, err := Load(environ)
	if hasValue(environ, "PORT") && !hasValue(environ, "ROLLCALL_EDGE_PORT") {
		c.EdgePort = c.Port
	}
	return c, err
}

// hasValue reports whether an environment sets a variable to more than white space. Load uses the last value of a name.
func hasValue(environ []string, name string) bool {
	return slices.ContainsFunc(environ, func(e string) bool {
		n, value, _ := strings.Cut(e, "=")
		return n == name && strings.TrimSpace(value) != ""
	})
}

// Load reads the configuration from an environment of NAME=value. It trims white space around a value, such as the newline
// at the end of a secret's file. Its error names the variable. An unknown ROLLCALL_ variable is an error.
func Load(environ []string) (Config, error) {
	values := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		if err := checkName(name, value); err != nil {
			return Config{}, err
		}
		values[name] = value
	}
	c, err := env.ParseAsWithOptions[Config](env.Options{Environment: values})
	if err != nil {
		return Config{}, configError(err, values)
	}
	return c, c.check()
}

// maxSettle bounds the settle time. Proxies cut the time to live of a vhost's marks to 30 s when they add a mark.
const maxSettle = 20 * time.Second

// minAdminToken is the shortest admin token, in characters.
const minAdminToken = 16

// check returns an error that names the first variable with a value out of range.
func (c Config) check() error {
	for _, check := range []func(Config) error{Config.checkPorts, Config.checkTimes, Config.checkLimits, Config.checkDNS, Config.checkTexts} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkPorts() error {
	optional := func(port *int) int {
		if port == nil {
			return 0
		}
		return *port
	}
	for name, port := range map[string]int{
		"PORT": c.Port, "ROLLCALL_EDGE_PORT": c.EdgePort, "ROLLCALL_EMBEDDED_REDIS_PORT": c.EmbeddedRedisPort,
		"ROLLCALL_METRICS_PORT": optional(c.MetricsPort), "ROLLCALL_DNS_PORT": optional(c.DNSPort),
	} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("config: %s (%d) must be a port from 0 to 65535", name, port)
		}
	}
	return nil
}

func (c Config) checkTimes() error {
	if c.Settle < 100*time.Millisecond || c.Settle > maxSettle {
		return fmt.Errorf("config: ROLLCALL_SETTLE (%s) must be from 100ms to %s", c.Settle, maxSettle)
	}
	if c.DrainPeriod < 0 || c.DrainPeriod > 5*time.Minute {
		return fmt.Errorf("config: ROLLCALL_DRAIN_HOLD (%s) must be from 0s to 5m", c.DrainPeriod)
	}
	for name, timeout := range map[string]time.Duration{"ROLLCALL_EDGE_CONNECT_TIMEOUT": c.EdgeConnect, "ROLLCALL_EDGE_TIMEOUT": c.EdgeTimeout} {
		if timeout < 10*time.Millisecond {
			return fmt.Errorf("config: %s (%s) must be at least 10ms", name, timeout)
		}
	}
	return nil
}

func (c Config) checkLimits() error {
	for name, limit := range map[string]int64{
		"ROLLCALL_REGISTER_RATE": int64(c.RegisterRate), "ROLLCALL_MAX_INSTANCES": int64(c.MaxInstances),
		"ROLLCALL_MAX_BACKENDS": int64(c.MaxBackends),
	} {
		if limit < 0 {
			return fmt.Errorf("config: %s (%d) must be a number, or 0 for any number", name, limit)
		}
	}
	for name, limit := range map[string]int64{"ROLLCALL_MAX_HOSTS": int64(c.MaxHosts), "ROLLCALL_MAX_BODY": c.MaxBody} {
		if limit < 1 {
			return fmt.Errorf("config: %s (%d) must be at least 1", name, limit)
		}
	}
	return nil
}

func (c Config) checkTexts() error {
	if c.AdminToken != "" && len(c.AdminToken) < minAdminToken {
		return fmt.Errorf("config: ROLLCALL_ADMIN_TOKEN must have at least %d characters", minAdminToken)
	}
	if c.Prefix == "" {
		return errors.New("config: ROLLCALL_PREFIX must not be empty")
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		return fmt.Errorf("config: ROLLCALL_LOG_LEVEL (%s) must be debug, info, warn or error", c.LogLevel)
	}
	if _, err := redisOptions(c.RedisURL); err != nil {
		return fmt.Errorf("config: REDIS_URL %w", err)
	}
	return nil
}

// configError names the variable. The library names the Go field, which the operator does not know.
func configError(err error, values map[string]string) error {
	parse, ok := errors.AsType[env.ParseError](err)
	if !ok {
		return fmt.Errorf("config: %w", err)
	}
	field, found := reflect.TypeFor[Config]().FieldByName(parse.Name)
	if !found {
		return fmt.Errorf("config: %w", err)
	}
	name := field.Tag.Get("env")
	if want := wantOf(field.Type); want != "" {
		return fmt.Errorf("config: %s (%s) must be %s", name, values[name], want)
	}
	return fmt.Errorf("config: %s (%s): %w", name, values[name], parse.Err)
}

// private are the networks that may be probed by default.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("fc00::/7"),
}

// mayProbe reports whether an address may be registered and probed.
func (c Config) mayProbe(a netip.Addr) bool {
	if c.ProbeNetworks != nil {
		return within(c.ProbeNetworks, a)
	}
	return within(private, a) || a.IsLoopback() && c.Bind.IsLoopback()
}

// mayTell reports whether a webhook may call an address.
func (c Config) mayTell(a netip.Addr) bool {
	if c.WebhookNetworks != nil {
		return within(c.WebhookNetworks, a)
	}
	return !a.IsLoopback() || c.Bind.IsLoopback()
}

func within(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// needsToken reports whether every call needs a token.
func (c Config) needsToken() bool { return c.AdminToken != "" || !c.Bind.IsLoopback() }

// wantOf describes the values of a field.
func wantOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[int](), reflect.TypeFor[int64](), reflect.TypeFor[*int]():
		return "a whole number"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[time.Duration]():
		return "a duration with its unit, as in 500ms, 5s or 10m"
	case reflect.TypeFor[netip.Addr]():
		return "an IP address"
	case reflect.TypeFor[[]netip.Prefix]():
		return "networks, comma-separated, as in 10.0.0.0/8,fd00::/8"
	}
	return ""
}

func (c Config) trusted() []*net.IPNet {
	var nets []*net.IPNet
	for _, p := range c.TrustedProxies {
		p = p.Masked()
		nets = append(nets, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return nets
}
