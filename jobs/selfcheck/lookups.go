package selfcheck

import (
	"net"
	"net/netip"
	"time"

	"rollcall/app"
)

const (
	failedLookups = 2           // of one name in a row: one lost datagram is not an outage
	lookupMemory  = time.Minute // how long a failed lookup counts, in addition to its instance's interval
)

// Lookups counts the names that the worker's name server fails to look up. Like SelfCheck
// it is a plain value without a clock, a lock or I/O. The zero value is ready to use.
type Lookups struct {
	failed map[string]failedLookup // by instance id
	names  int                     // names with failedLookups failures or more
	swept  time.Time
}

type failedLookup struct {
	times int // in a row
	until time.Time
}

// Record adds the result of one probe, reached at now. It returns a reason and true when the name
// server begins to fail, and when it answers again.
func (l *Lookups) Record(i app.Instance, r app.Result, now time.Time) (reason string, changed bool) {
	was, host := l.names, hostOf(i)
	switch {
	case isAddress(host):
	case r.Code == app.NameServerFailed:
		l.fail(i, now)
	case r.Conclusive():
		l.forget(i.ID)
	}
	if now.Sub(l.swept) > time.Second {
		l.sweep(now)
	}
	switch {
	case was == 0 && l.names > 0:
		return "the name " + host + " cannot be looked up: " + r.Detail, true
	case was > 0 && l.names == 0:
		return "names can be looked up again", true
	}
	return "", false
}

// sweep drops instances that are gone: no worker looks them up again.
func (l *Lookups) sweep(now time.Time) {
	l.swept = now
	for id, f := range l.failed {
		if now.After(f.until) {
			l.forget(id)
		}
	}
}

// Idle reports whether Lookups holds no failed lookup. A conclusive result then changes nothing.
func (l *Lookups) Idle() bool { return len(l.failed) == 0 }

// Failing reports whether the name server fails to look up names.
func (l *Lookups) Failing() bool { return l.names > 0 }

func (l *Lookups) fail(i app.Instance, now time.Time) {
	if l.failed == nil {
		l.failed = map[string]failedLookup{}
	}
	f := failedLookup{l.failed[i.ID].times + 1, now.Add(lookupMemory + i.Check.Interval)}
	l.failed[i.ID] = f
	if f.times == failedLookups {
		l.names++
	}
}

func (l *Lookups) forget(id string) {
	if l.failed[id].times >= failedLookups {
		l.names--
	}
	delete(l.failed, id)
}

// hostOf returns the host that a probe of an instance connects to: an IP address or a name.
func hostOf(i app.Instance) string {
	host, _, err := net.SplitHostPort(i.Target())
	if err != nil {
		return i.Target()
	}
	return host
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
