package migrations_test

import (
	"errors"
	"os"
	"testing"

	"rollcall/migrations"
	"rollcall/tests/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m).Run()) }

func TestRunBringsTheSchemaToTheLatestVersion(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.New(t), redistest.Prefix(t)
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
	rdb, prefix := redistest.New(t), redistest.Prefix(t)
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

func TestOneProcessMigrates(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.New(t), redistest.Prefix(t)
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
	rdb, prefix := redistest.New(t), redistest.Prefix(t)
	rdb.Set(t.Context(), prefix+"schema", "one", 0)
	if _, err := migrations.Version(t.Context(), rdb, prefix); err == nil {
		t.Error("Version took \"one\" for a version")
	}
}
