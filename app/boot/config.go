package boot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Config is all that can be configured, from the environment only. README's table is
// made of these fields.
type Config struct {
	Port              int            `env:"PORT" envDefault:"8080" doc:"port of the API; 0: any free one"`
	Bind              netip.Addr     `env:"ROLLCALL_BIND" envDefault:"127.0.0.1" doc:"address that API and edge listen on"`
	RedisURL          string         `env:"REDIS_URL" doc:"redis://, rediss://, unix:// or redis+sentinel://host1,host2/primary; without it dev and serve bring an embedded one"`
	EdgePort          int            `env:"ROLLCALL_EDGE_PORT" envDefault:"8000" doc:"port of the edge; 0: any free one"`
	EmbeddedRedisPort int            `env:"ROLLCALL_EMBEDDED_REDIS_PORT" envDefault:"6390" doc:"port of the embedded Redis; 0: any free one"`
	MetricsPort       *int           `env:"ROLLCALL_METRICS_PORT" doc:"port of /metrics and /livez in processes without the API; 0: any free one; without it there is none"`
	Prefix            string         `env:"ROLLCALL_PREFIX" envDefault:"rollcall:" doc:"what Rollcall's own keys begin with"`
	HipachePrefix     string         `env:"ROLLCALL_HIPACHE_PREFIX" doc:"what the proxy's keys begin with, as in its redis://host#prefix"`
	Settle            time.Duration  `env:"ROLLCALL_SETTLE" envDefault:"5s" doc:"how long a marked backend stays in its list"`
	DrainHold         time.Duration  `env:"ROLLCALL_DRAIN_HOLD" envDefault:"5s" doc:"how long a drained instance goes on answering"`
	TrustedProxies    []netip.Prefix `env:"ROLLCALL_TRUSTED_PROXIES" doc:"networks whose X-Forwarded-For is believed, comma-separated"`
	HcheckerPing      bool           `env:"ROLLCALL_HCHECKER_PING" envDefault:"false" doc:"tell Hipache that health is checked, so that it stops marking backends itself"`
	LogLevel          string         `env:"ROLLCALL_LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`
}

// Load reads the configuration from an environment of NAME=value. An error names the
// variable.
func Load(environ []string) (Config, error) {
	values := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && value != "" {
			values[name] = value
		}
	}
	c, err := env.ParseAsWithOptions[Config](env.Options{Environment: values})
	if err != nil {
		return Config{}, configError(err, values)
	}
	return c, c.check()
}

// maxSettle is how long a mark may have to last: proxies cut every mark of a vhost to
// 30 s when they add one.
const maxSettle = 20 * time.Second

func (c Config) check() error {
	metricsPort := 0
	if c.MetricsPort != nil {
		metricsPort = *c.MetricsPort
	}
	for name, port := range map[string]int{"ROLLCALL_METRICS_PORT": metricsPort, "PORT": c.Port, "ROLLCALL_EDGE_PORT": c.EdgePort, "ROLLCALL_EMBEDDED_REDIS_PORT": c.EmbeddedRedisPort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("config: %s (%d) must be a port from 0 to 65535", name, port)
		}
	}
	if c.Settle < 100*time.Millisecond || c.Settle > maxSettle {
		return fmt.Errorf("config: ROLLCALL_SETTLE (%s) must be from 100ms to %s", c.Settle, maxSettle)
	}
	if c.DrainHold < 0 || c.DrainHold > 5*time.Minute {
		return fmt.Errorf("config: ROLLCALL_DRAIN_HOLD (%s) must be from 0s to 5m", c.DrainHold)
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

// configError names the variable: the library names the Go field, which the operator
// has never seen.
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
	return fmt.Errorf("config: %s (%s): %w", name, values[name], parse.Err)
}

func (c Config) trusted() []*net.IPNet {
	var nets []*net.IPNet
	for _, p := range c.TrustedProxies {
		p = p.Masked()
		nets = append(nets, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return nets
}
