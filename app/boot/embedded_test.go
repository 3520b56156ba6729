package boot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func embed(t *testing.T) (*embedded, *redis.Client) {
	t.Helper()
	e, err := startEmbedded(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	c := redis.NewClient(&redis.Options{Addr: e.server.Addr()})
	t.Cleanup(func() { _ = c.Close() })
	return e, c
}

func TestTheEmbeddedRedisAnswersINFOAsARedisDoes(t *testing.T) {
	t.Parallel()
	_, c := embed(t)
	for _, ask := range []struct {
		sections []string
		want     []string // at the beginning of lines
		not      []string
	}{
		{nil, []string{"# Server", "redis_version:7.", "redis_mode:standalone", "connected_clients:", "loading:0", "role:master"}, nil},
		{[]string{"all"}, []string{"redis_version:7.", "role:master"}, nil},
		{[]string{"server"}, []string{"redis_version:7."}, []string{"loading", "role"}},
		{[]string{"REPLICATION"}, []string{"role:master"}, []string{"redis_version"}},
		{[]string{"persistence", "server"}, []string{"redis_version:7.", "loading:0"}, []string{"role"}},
		{[]string{"nothing"}, nil, []string{"#"}},
	} {
		got, err := c.Info(t.Context(), ask.sections...).Result()
		if err != nil {
			t.Fatal(err)
		}
		lines := "\r\n" + got
		for _, want := range ask.want {
			if !strings.Contains(lines, "\r\n"+want) {
				t.Errorf("INFO %v lacks %q:\n%s", ask.sections, want, got)
			}
		}
		for _, not := range ask.not {
			if strings.Contains(got, not) {
				t.Errorf("INFO %v has %q:\n%s", ask.sections, not, got)
			}
		}
	}
}

// Hipache 0.2.8 depends on redis 0.8, and 0.3 and 0.4 on redis 0.10. They call INFO before
// the first command, and throw if the answer lacks a field that they read.
func TestTheRedisClientsOfHipacheReadTheEmbeddedRedis(t *testing.T) {
	t.Parallel()
	e, c := embed(t)
	if err := c.RPush(t.Context(), "frontend:a.test", "web", "http://10.0.0.1:80").Err(); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("no " + program)
		}
	}
	for _, version := range []string{"0.8.6", "0.10.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "redis@"+version)
			install.Dir = dir
			if out, err := install.CombinedOutput(); err != nil {
				t.Skipf("npm cannot install redis@%s: %v\n%s", version, err, out)
			}
			script := filepath.Join(dir, "read.js")
			if err := os.WriteFile(script, []byte(`
var client = require('redis').createClient(process.argv[2], '127.0.0.1');
client.on('error', function (err) { console.log('error', err); process.exit(1); });
client.multi().lrange('frontend:a.test', 0, -1).smembers('dead:a.test').exec(function (err, replies) {
  console.log(JSON.stringify(replies), client.server_info.redis_version);
  process.exit(err ? 1 : 0);
});
`), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(ctx, "node", script, e.server.Port()).CombinedOutput()
			if want := `[["web","http://10.0.0.1:80"],[]] ` + embeddedVersion; err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%v\n%s\nwant %s", err, out, want)
			}
		})
	}
}
