package redisstore

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app/diagnose"
)

// processKept is how long a process is listed after its last call of Announce. Processes call once a minute.
const processKept = 150 * time.Second

// Announce lists a process until processKept is over, and removes the processes whose time is over.
func (s *Store) Announce(ctx context.Context, p diagnose.Process) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	now := s.Now()
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZRemRangeByScore(ctx, s.keys.processes(), "-inf", msOf(now.Add(-processKept)))
		pipe.ZAdd(ctx, s.keys.processes(), redis.Z{Score: float64(now.UnixMilli()), Member: memberOf(p)})
		return nil
	})
	return wrapIf("announce the process", err)
}

// Withdraw removes a process that ends from the list.
func (s *Store) Withdraw(ctx context.Context, p diagnose.Process) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return wrapIf("withdraw the process", s.rdb.ZRem(ctx, s.keys.processes(), memberOf(p)).Err())
}

// Processes lists the web and cron processes. A process that was killed is listed until processKept is over.
func (s *Store) Processes(ctx context.Context) ([]diagnose.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	list, err := s.rdb.ZRangeByScore(ctx, s.keys.processes(), &redis.ZRangeBy{Min: msOf(s.Now().Add(-processKept)), Max: "+inf"}).Result()
	if err != nil && !wrongType(err) {
		return nil, wrap("list the processes", err)
	}
	var processes []diagnose.Process
	for _, member := range list {
		var p diagnose.Process
		if json.Unmarshal([]byte(member), &p) == nil { // edited by hand otherwise
			processes = append(processes, p)
		}
	}
	return processes, nil
}

func msOf(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// memberOf returns the entry of a process, which is the same in each of its calls.
func memberOf(p diagnose.Process) string {
	b, _ := json.Marshal(p) // a process has only texts, numbers and a time
	return string(b)
}
