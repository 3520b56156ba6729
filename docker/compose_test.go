package docker_test

import (
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// The commands of compose.replicas.yaml, on real servers.
func TestThePrimaryOfTheComposeFileWritesOnlyWithAReplica(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("compose.replicas.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^    command: redis-server (.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(commands) != 2 {
		t.Fatalf("compose.replicas.yaml has %d commands of redis-server, want a primary's and a replica's", len(commands))
	}
	primary, replica := harness.StartRedis(t), harness.StartRedis(t)
	primary.Restart(t, strings.Fields(commands[0][1])...)
	rdb := primary.Client(t)
	if err := rdb.Set(t.Context(), "key", "alone", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOREPLICAS") {
		t.Errorf("without a replica it answers %v, want NOREPLICAS", err)
	}
	host, port, _ := net.SplitHostPort(primary.Addr())
	options, found := strings.CutSuffix(commands[1][1], " --replicaof redis 6379")
	if !found || options != commands[0][1] {
		t.Errorf("the replica, which may become the primary, is run with %q, the primary with %q", commands[1][1], commands[0][1])
	}
	replica.Restart(t, append(strings.Fields(options), "--replicaof", host+" "+port)...)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = rdb.Set(t.Context(), "key", "two", 0).Err(); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Errorf("with a replica it answers %v", err)
	}
}
