package boot

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

// awaitRedis bounds the time that a starting process waits for Redis.
const awaitRedis = 30 * time.Second

// askRedis bounds the time that a command waits for Redis.
const askRedis = 3 * time.Second

// redisOptions parses a Redis URL. redis+sentinel://host1,host2/primary names the sentinels and their primary.
func redisOptions(raw string) (*redis.UniversalOptions, error) {
	o := &redis.UniversalOptions{
		// A Redis that hangs counts as one that is down. The context of a call bounds it. A call that waits for events has a longer bound.
		DialTimeout: 500 * time.Millisecond, ReadTimeout: 1500 * time.Millisecond, WriteTimeout: 800 * time.Millisecond,
		PoolTimeout: 800 * time.Millisecond, ContextTimeoutEnabled: true,
		// No automatic retries: Redis may have carried out a call although its answer was lost.
		MaxRetries: -1, PoolSize: 64, ClientName: "rollcall", DisableIdentity: true,
		// The library's defaults are 64 KiB of buffers for a connection, and 256 KiB for a pipeline's connection.
		ReadBufferSize: 8 << 10, WriteBufferSize: 8 << 10, PipelineReadBufferSize: 16 << 10, PipelineWriteBufferSize: 64 << 10,
	}
	if rest, ok := strings.CutPrefix(raw, "redis+sentinel://"); ok {
		return o, sentinelOptions(o, rest)
	}
	if raw == "" {
		return o, nil
	}
	u, err := redis.ParseURL(raw)
	if err != nil {
		// The library's error repeats the URL, and with it the password.
		return nil, errors.New("must be redis://, rediss://, unix:// or redis+sentinel://, as in redis://:password@host:6379/0")
	}
	o.Addrs, o.DB, o.Username, o.Password, o.TLSConfig = []string{u.Addr}, u.DB, u.Username, u.Password, u.TLSConfig
	return o, nil
}

func sentinelOptions(o *redis.UniversalOptions, rest string) error {
	bad := errors.New("must be redis+sentinel://[user:password@]host1[:port],host2[:port]/primary[/db]")
	if user, hosts, ok := cutLast(rest, "@"); ok {
		u, err := url.Parse("redis://" + user + "@host")
		if err != nil {
			return bad
		}
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
		rest = hosts
	}
	hosts, path, _ := strings.Cut(rest, "/")
	primary, db, hasDB := strings.Cut(path, "/")
	if hosts == "" || primary == "" {
		return bad
	}
	if hasDB {
		n, err := strconv.ParseUint(db, 10, 31)
		if err != nil {
			return bad
		}
		o.DB = int(n)
	}
	o.MasterName, o.Addrs = primary, sentinelAddrs(hosts)
	return nil
}

func sentinelAddrs(hosts string) (addrs []string) {
	for h := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(h, "26379")
		}
		addrs = append(addrs, h)
	}
	return addrs
}

func cutLast(s, sep string) (before, after string, found bool) {
	if n := strings.LastIndex(s, sep); n >= 0 {
		return s[:n], s[n+len(sep):], true
	}
	return "", s, false
}

// silent discards the client library's log. Its messages also arrive as errors, and its lines have another format.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// connect returns a client of the Redis at raw if it answers within patience. It returns the context's error if the
// context ends first.
func connect(ctx context.Context, raw string, patience time.Duration, log *slog.Logger) (redis.UniversalClient, error) {
	o, err := redisOptions(raw)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL %w", err)
	}
	rdb := newClient(o)
	if err := awaitAnswer(ctx, rdb, patience, log.With("addr", strings.Join(o.Addrs, ","))); err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return rdb, nil
}

func newClient(o *redis.UniversalOptions) redis.UniversalClient {
	if o.MasterName == "" {
		return redis.NewClient(o.Simple())
	}
	return redis.NewFailoverClient(o.Failover())
}

// awaitAnswer waits for the first answer of Redis.
func awaitAnswer(starting context.Context, rdb redis.UniversalClient, patience time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(starting, patience)
	defer cancel()
	for last := error(nil); ; {
		err := rdb.Ping(ctx).Err()
		switch _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); {
		case err == nil:
			return nil
		case starting.Err() != nil:
			return starting.Err()
		case untrusted: // waiting does not help
			return fmt.Errorf("REDIS_URL: %w (SSL_CERT_FILE names a file with the authorities that are trusted)", err)
		case ctx.Err() != nil:
			return fmt.Errorf("REDIS_URL: no good answer from Redis for %s: %w", patience, cmp.Or(last, err))
		case last == nil:
			log.WarnContext(ctx, "waiting for Redis", "err", err)
		}
		last = err
		_ = app.Sleep(ctx, 250*time.Millisecond)
	}
}

// embeddedVersion is the version of Redis with which the embedded Redis is compatible.
const embeddedVersion = "7.2.4"

// embedded is the embedded Redis: in memory, in this process, on a port of its own, so that redis-cli and a proxy can
// read it.
type embedded struct {
	server *miniredis.Miniredis
	stop   context.CancelFunc
	aging  sync.WaitGroup
}

func startEmbedded(ctx context.Context, port int) (*embedded, error) {
	e := &embedded{server: miniredis.NewMiniRedis()}
	if err := e.server.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		return nil, fmt.Errorf("ROLLCALL_EMBEDDED_REDIS_PORT: %w (set it to another port, or to 0 for any)", err)
	}
	e.server.Server().SetPreHook(e.info)
	ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.aging.Go(func() { // its keys expire only on request
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-second.C:
				e.server.FastForward(time.Second)
			case <-ctx.Done():
				return
			}
		}
	})
	return e, nil
}

// info answers INFO with the fields that clients read before their first command, in the sections of a real Redis.
// node_redis 0.8, the client of Hipache 0.2.8, fails without redis_version. info reports whether the command was INFO.
func (e *embedded) info(c *server.Peer, command string, sections ...string) bool {
	if command != "INFO" {
		return false
	}
	s := e.server.Server()
	var answer strings.Builder
	for _, section := range []struct{ name, fields string }{
		{"Server", fmt.Sprintf("redis_version:%s\r\nredis_mode:standalone\r\ntcp_port:%s\r\n", embeddedVersion, e.server.Port())},
		{"Clients", fmt.Sprintf("connected_clients:%d\r\n", s.ClientsLen())},
		{"Persistence", "loading:0\r\n"},
		{"Stats", fmt.Sprintf("total_connections_received:%d\r\ntotal_commands_processed:%d\r\n", s.TotalConnections(), s.TotalCommands())},
		{"Replication", "role:master\r\nconnected_slaves:0\r\n"},
		{"Cluster", "cluster_enabled:0\r\n"},
	} {
		wanted := func(asked string) bool {
			return slices.Contains([]string{"all", "default", "everything", strings.ToLower(section.name)}, strings.ToLower(asked))
		}
		if len(sections) > 0 && !slices.ContainsFunc(sections, wanted) {
			continue
		}
		if answer.Len() > 0 {
			answer.WriteString("\r\n")
		}
		answer.WriteString("# " + section.name + "\r\n" + section.fields)
	}
	c.WriteBulk(answer.String())
	return true
}

func (e *embedded) url() string { return "redis://" + e.server.Addr() }

func (e *embedded) close() {
	e.stop()
	e.aging.Wait()
	e.server.Close()
}
