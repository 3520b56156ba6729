package app

// Explanation is what the proxy makes of a requested host, and why.
type Explanation struct {
	Header    string     // the Host header that was asked about
	Requested string     // what the proxy looks up for it; the dead set goes by it
	Names     []LookedUp // in the order in which they are looked up
	Frontend  Frontend   // the one that answers; without a host when none does
	Status    int        // what the proxy answers by itself; 0 when it has a backend to ask
	Verdict   string     // in words
}

// LookedUp is one of the vhosts that could answer for a requested host.
type LookedUp struct {
	Host  string
	Key   string // the name of its list
	Type  string // of the key, as Redis calls it; "none" when it does not exist
	Slots int    // backends in the list
	Wins  bool   // it is the one that answers
}

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // end users or the registry suffer, or will at the next restart
	Warning Severity = "warning" // something is not as it should be, and nobody suffers yet
)

// Finding is something wrong with a Redis, its settings or its keys.
type Finding struct {
	Severity Severity
	What     string
	Fix      string // what to do about it
}
