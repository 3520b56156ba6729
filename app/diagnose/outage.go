package diagnose

import "strings"

// outages are the known texts of errors of a registry out of reach, and their meanings.
var outages = []struct{ text, meaning string }{
	{"OOM ", "Redis has no memory left: see its maxmemory"},
	{"MISCONF ", "Redis cannot write to its disk"},
	{"READONLY ", "this Redis is a replica, and not the primary any more"},
	{"NOREPLICAS ", "Redis reaches too few of its replicas to write: see its min-replicas-to-write"},
	{"LOADING ", "Redis is starting, and reads its data"},
	{"max number of clients", "Redis takes no more connections: see its maxclients"},
	{"connection refused", "Redis refuses connections: it is not running, or elsewhere"},
	{"no word from the registry", "no word from Redis for some time"},
	{"has not been read yet", "this process has not read it yet"},
	{"timeout", "Redis does not answer"},
	{"deadline exceeded", "Redis does not answer"},
}

// Outage says why the registry is out of reach, without its address or other details that callers must not learn.
// It returns an empty text for an unknown reason.
func Outage(err error) string {
	text := err.Error()
	for _, known := range outages {
		if strings.Contains(text, known.text) {
			return known.meaning
		}
	}
	return ""
}
