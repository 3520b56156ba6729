package redisstore_test

import (
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"rollcall/app/redisstore"
	"rollcall/app/redisstore/storetest"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m).Run()) }

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.StoreContract(t, func(t *testing.T) storetest.Subject {
		return subject(harness.SharedRedis(t), harness.Prefix(t))
	})
}

// The embedded default of rollcall dev fulfils the same contract.
func TestStoreOnMiniredis(t *testing.T) {
	t.Parallel()
	storetest.StoreContract(t, func(t *testing.T) storetest.Subject {
		c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		return subject(c, "")
	})
}

func subject(c *redis.Client, prefix string) storetest.Subject {
	clock := storetest.NewClock()
	s := redisstore.New(c, redisstore.Options{
		Prefix: prefix, Hipache: hipache.Keys{Prefix: prefix}, Settle: storetest.Settle, Now: clock.Now,
		Timeout: time.Minute, // the machine may be busy
	})
	return storetest.Subject{
		Store: s, Vhosts: s.Vhosts(), Clock: clock,
	}
}
