package probe_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
	"rollcall/tests/harness"
)

func TestLineAnswers(t *testing.T) {
	t.Parallel()
	tooLong := fail(app.BadAnswer, "longer than a probe reads")
	for _, c := range []struct {
		kind   app.Kind
		answer string
		want   app.Result
	}{
		{app.Memcached, "VERSION 1.6.18\r\n", pass(app.OK)},
		{app.Memcached, "CLIENT_ERROR unauthenticated\r\n", pass(app.OK)},
		{app.Memcached, "CLIENT_ERROR bad data chunk\r\n", fail(app.BadAnswer, `begins "CLIENT_ERROR"`)},
		{app.Memcached, "VERSION\r\n", fail(app.BadAnswer, `begins "VERSION"`)},
		{app.Memcached, "ERROR\r\n", fail(app.BadAnswer, `begins "ERROR"`)},
		{app.Memcached, "HTTP/1.1 400 Bad Request\r\n", fail(app.BadAnswer, `begins "HTTP/1.1"`)},
		{app.Memcached, "VERSION 1.6", fail(app.ClosedEarly, "")},
		{app.Memcached, strings.Repeat("V", 600), tooLong},
		{app.Redis, "+PONG\r\n", pass(app.OK)},
		{app.Redis, "+PONGS\r\n", fail(app.BadAnswer, `begins "+PONGS"`)},
		{app.Redis, "-NOAUTH Authentication required.\r\n", pass(app.OK)},
		{app.Redis, "-NOPERM this user has no permissions to run the 'ping' command\r\n", pass(app.OK)},
		{app.Redis, "-WRONGPASS invalid username-password pair or user is disabled.\r\n", pass(app.OK)},
		{app.Redis, "-ERR operation not permitted\r\n", pass(app.OK)}, // Redis 2.6 that requires a password
		{app.Redis, "-ERR max number of clients reached\r\n", fail(app.NotServing, "ERR")},
		{app.Redis, "-LOADING Redis is loading the dataset in memory\r\n", fail(app.NotServing, "LOADING")},
		{app.Redis, "-BUSY Redis is busy running a script.\r\n", fail(app.NotServing, "BUSY")},
		{app.Redis, "-DENIED Redis is running in protected mode\r\n", fail(app.NotServing, "DENIED")},
		{app.Redis, "-\x07\xff\r\n", fail(app.NotServing, "??")},
		{app.Redis, "220 mail.internal ESMTP\r\n", fail(app.BadAnswer, `begins "220"`)},
		{app.Redis, "\r\n", fail(app.BadAnswer, `begins ""`)},
		{app.Redis, "+PON", fail(app.ClosedEarly, "")},
		{app.Redis, "+" + strings.Repeat("P", 600), tooLong},
	} {
		t.Run(string(c.kind)+" "+strings.TrimSpace(c.answer[:min(20, len(c.answer))]), func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 64))
				_, _ = conn.Write([]byte(c.answer))
			})
			expect(t, instance(c.kind, address, ample), c.want)
		})
	}
}

func TestRealMemcached(t *testing.T) {
	t.Parallel()
	address := start(t, "memcached", "-l", "127.0.0.1", "-u", "root", "-t", "1", "-p")
	expect(t, instance(app.Memcached, address, ample), pass(app.OK))
	expect(t, instance(app.TCP, address, ample), pass(app.OK))
	expect(t, instance(app.Redis, address, ample), fail(app.BadAnswer, `begins "ERROR"`))
}

func TestRealMemcachedThatWantsAPasswordIsAlive(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("app:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := start(t, "memcached", "-l", "127.0.0.1", "-u", "root", "-t", "1", "-Y", users, "-p")
	expect(t, instance(app.Memcached, address, ample), pass(app.OK))
}

func TestRealMemcachedWithSASLIsAlive(t *testing.T) {
	t.Parallel()
	if modules, _ := filepath.Glob("/usr/lib/*/sasl2/libplain.so"); len(modules) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("no SASL modules: install libsasl2-modules")
		}
		t.Skip("no SASL modules: install libsasl2-modules")
	}
	config := t.TempDir()
	if err := os.WriteFile(filepath.Join(config, "memcached.conf"), []byte("mech_list: plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Need(t, "memcached")
	address := start(t, "env", "SASL_CONF_PATH="+config, "memcached", "-l", "127.0.0.1", "-u", "root", "-t", "1", "-S", "-p")
	expect(t, instance(app.Memcached, address, ample), pass(app.OK))
}

func TestMemcachedThatClosesIsNotAlive(t *testing.T) {
	t.Parallel()
	closes := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 64)) })
	expect(t, instance(app.Memcached, closes, ample), fail(app.ClosedEarly, ""))
}

func TestRealRedis(t *testing.T) {
	t.Parallel()
	open := startRedis(t)
	expect(t, instance(app.Redis, open, ample), pass(app.OK))
	expect(t, instance(app.TCP, open, ample), pass(app.OK))
	expect(t, instance(app.Memcached, open, ample), fail(app.BadAnswer, `begins "-ERR"`))
}

func TestRealRedisThatRefusesToServe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		option []string
		want   app.Result
	}{
		"wants a password": {[]string{"--requirepass", "secret"}, pass(app.OK)},
		"wants a user":     {strings.Fields("--user default on nopass -@all"), pass(app.OK)},
		"has no user":      {strings.Fields("--user default off --user app on >secret ~* +@all"), pass(app.OK)},
		"lost its master":  {[]string{"--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no"}, fail(app.NotServing, "MASTERDOWN")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, instance(app.Redis, startRedis(t, c.option...), ample), c.want)
		})
	}
}

func startRedis(t *testing.T, options ...string) string {
	t.Helper()
	options = append(options, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	return start(t, "redis-server", append(options, "--port")...)
}

// start runs a server with a free port as its last argument until the test ends. It waits until the
// server accepts connections, and returns its address.
func start(t *testing.T, name string, args ...string) string {
	t.Helper()
	path := harness.Need(t, name)
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	startOn(t, address, path, append(args, port)...)
	return address
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startOn runs a server until the test ends. It waits until the server accepts connections at the address.
func startOn(t *testing.T, address, path string, args ...string) {
	t.Helper()
	ctx, kill := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, path, args...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		kill()
		for range exited { // until it is closed
		}
	})

	p := probe.New(probe.Options{})
	for !p.Probe(t.Context(), instance(app.TCP, address, ample)).Passed {
		select {
		case err := <-exited:
			t.Fatalf("%s: %v\n%s", path, err, output.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
