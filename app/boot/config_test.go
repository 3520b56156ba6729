package boot

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestTheReadmeListsEveryVariable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for f := range reflect.TypeFor[Config]().Fields() {
		def := f.Tag.Get("envDefault")
		if def != "" {
			def = "`" + def + "` "
		}
		row := fmt.Sprintf("| `%s` | %s| %s |\n", f.Tag.Get("env"), def, f.Tag.Get("doc"))
		if !strings.Contains(string(readme), row) {
			t.Errorf("README lacks the row\n%s", row)
		}
	}
}

func TestABadValueNamesItsVariable(t *testing.T) {
	t.Parallel()
	for _, set := range []string{
		"PORT=http", "PORT=70000", "PORT=-1", "ROLLCALL_EDGE_PORT=x", "ROLLCALL_EMBEDDED_REDIS_PORT=65536", "ROLLCALL_BIND=localhost",
		"REDIS_URL=http://localhost", "REDIS_URL=localhost:6379", "REDIS_URL=redis+sentinel://", "REDIS_URL=redis+sentinel://host/primary/x",
		"ROLLCALL_SETTLE=5", "ROLLCALL_SETTLE=0s", "ROLLCALL_SETTLE=1h", "ROLLCALL_DRAIN_HOLD=-1s", "ROLLCALL_TRUSTED_PROXIES=10.0.0.1",
		"ROLLCALL_HCHECKER_PING=maybe", "ROLLCALL_LOG_LEVEL=loud",
	} {
		name, _, _ := strings.Cut(set, "=")
		if _, err := Load([]string{set}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names %s", set, err, name)
		}
	}
}

func TestAnErrorDoesNotShowThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://u:hunter2@host:port", "redis+sentinel://u:hunter2@host/", "htp://:hunter2@h"} {
		if _, err := Load([]string{"REDIS_URL=" + url}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestRedisURLsAreUnderstood(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://:pw@h:1/3":                         "[h:1]  pw 3  false",
		"rediss://u:pw@h:1":                         "[h:1] u pw 0  true",
		"unix:///run/redis.sock?db=2":               "[/run/redis.sock]   2  false",
		"redis+sentinel://a,b:1/mine":               "[a:26379 b:1]   0 mine false",
		"redis+sentinel://u:p%40w@a/mine/4":         "[a:26379] u p@w 4 mine false",
		"redis+sentinel://[fd00::1]:26380,b/mine/0": "[[fd00::1]:26380 b:26379]   0 mine false",
	} {
		o, err := redisOptions(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := fmt.Sprint(o.Addrs, " ", o.Username, " ", o.Password, " ", o.DB, " ", o.MasterName, " ", o.TLSConfig != nil); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
