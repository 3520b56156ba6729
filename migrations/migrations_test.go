package migrations_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/migrations"
	"rollcall/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m).Run()) }

func TestRunBringsTheSchemaToTheLatestVersion(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	if v, err := migrations.Version(t.Context(), rdb, prefix); v != 0 || err != nil {
		t.Errorf("version of nothing is %d (%v), want 0", v, err)
	}
	from, to, err := migrations.Run(t.Context(), rdb, prefix)
	if from != 0 || to != migrations.Latest || err != nil {
		t.Errorf("Run went from %d to %d (%v), want from 0 to %d", from, to, err, migrations.Latest)
	}
	from, to, err = migrations.Run(t.Context(), rdb, prefix)
	if from != migrations.Latest || to != migrations.Latest || err != nil {
		t.Errorf("a second Run went from %d to %d (%v), want to stay at %d", from, to, err, migrations.Latest)
	}
	if n := rdb.Exists(t.Context(), prefix+"migrating").Val(); n != 0 {
		t.Error("Run left its lock behind")
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	rdb.Set(t.Context(), prefix+"schema", migrations.Latest+1, 0)
	if _, err := migrations.Version(t.Context(), rdb, prefix); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("Version returned %v, want ErrNewer", err)
	}
	if _, _, err := migrations.Run(t.Context(), rdb, prefix); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("Run returned %v, want ErrNewer", err)
	}
	if n, _ := rdb.Get(t.Context(), prefix+"schema").Int(); n != migrations.Latest+1 {
		t.Errorf("Run set the version to %d", n)
	}
}

func TestARunningProcessGoesOnAfterAdditiveSteps(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	for _, c := range []struct {
		oldest any
		want   bool
	}{{nil, false}, {migrations.Latest, true}, {1, true}, {migrations.Latest + 1, false}} {
		rdb.Set(t.Context(), prefix+"schema", migrations.Latest+1, 0)
		if c.oldest != nil {
			rdb.Set(t.Context(), prefix+"schema:oldest", c.oldest, 0)
		}
		if got, err := migrations.MayGoOn(t.Context(), rdb, prefix); got != c.want || err != nil {
			t.Errorf("beside a newer schema that admits %v: %v, %v, want %v", c.oldest, got, err, c.want)
		}
	}
	rdb.Set(t.Context(), prefix+"schema:oldest", "x", 0)
	if _, err := migrations.MayGoOn(t.Context(), rdb, prefix); err == nil {
		t.Error("an oldest version that is no number is no error")
	}
}

func TestRunWritesTheOldestVersion(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	if _, _, err := migrations.Run(t.Context(), rdb, prefix); err != nil {
		t.Fatal(err)
	}
	if got, err := rdb.Get(t.Context(), prefix+"schema:oldest").Int(); got != migrations.Latest || err != nil {
		t.Errorf("the oldest version is %d (%v), want %d: step %d is not additive", got, err, migrations.Latest, migrations.Latest)
	}
}

func TestOneProcessMigrates(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	rdb.Set(t.Context(), prefix+"migrating", "another", 0)
	if _, _, err := migrations.Run(t.Context(), rdb, prefix); !errors.Is(err, migrations.ErrBusy) {
		t.Errorf("Run returned %v while another process holds the lock, want ErrBusy", err)
	}
	if v := rdb.Get(t.Context(), prefix+"migrating").Val(); v != "another" {
		t.Error("Run took the other's lock away")
	}
}

func TestAVersionThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	rdb.Set(t.Context(), prefix+"schema", "one", 0)
	if _, err := migrations.Version(t.Context(), rdb, prefix); err == nil {
		t.Error("Version took \"one\" for a version")
	}
}

// during calls a function when a migration writes the schema version, and after that.
type during struct{ before, after func() }

func (d during) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d during) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d during) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		key, _ := cmd.Args()[min(1, len(cmd.Args())-1)].(string)
		if cmd.Name() != "mset" || !strings.HasSuffix(key, "schema") {
			return next(ctx, cmd)
		}
		d.before()
		err := next(ctx, cmd)
		d.after()
		return err
	}
}

func TestTheLockOfAMigration(t *testing.T) {
	t.Parallel()
	nothing := func() {}
	t.Run("ends by itself, so that a crashed process blocks no other", func(t *testing.T) {
		t.Parallel()
		observer, rdb, prefix := harness.SharedRedis(t), harness.SharedRedis(t), harness.Prefix(t)
		var left time.Duration
		rdb.AddHook(during{func() { left = observer.PTTL(t.Context(), prefix+"migrating").Val() }, nothing})
		if _, _, err := migrations.Run(t.Context(), rdb, prefix); err != nil {
			t.Fatal(err)
		}
		if left <= 0 || left > time.Minute {
			t.Errorf("during a migration the lock ends in %s, want at most a minute", left)
		}
	})
	t.Run("of another process stays", func(t *testing.T) {
		t.Parallel()
		observer, rdb, prefix := harness.SharedRedis(t), harness.SharedRedis(t), harness.Prefix(t)
		rdb.AddHook(during{func() { observer.Set(t.Context(), prefix+"migrating", "another", 0) }, nothing})
		if _, _, err := migrations.Run(t.Context(), rdb, prefix); err != nil {
			t.Fatal(err)
		}
		if v := observer.Get(t.Context(), prefix+"migrating").Val(); v != "another" {
			t.Errorf("the lock of another process is %q after a migration", v)
		}
	})
	t.Run("is deleted by an interrupted process", func(t *testing.T) {
		t.Parallel()
		observer, rdb, prefix := harness.SharedRedis(t), harness.SharedRedis(t), harness.Prefix(t)
		ctx, interrupt := context.WithCancel(t.Context())
		rdb.AddHook(during{nothing, interrupt})
		if _, _, err := migrations.Run(ctx, rdb, prefix); err == nil {
			t.Fatal("an interrupted migration returns no error")
		}
		if n := observer.Exists(t.Context(), prefix+"migrating").Val(); n != 0 {
			t.Error("an interrupted migration leaves its lock behind")
		}
	})
}
